"""YAML as people write it: a text that cannot be read, or says a thing twice, is one line that names the place."""

from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from concord.errors import ConcordError
from concord.recipe import load
from concord.settings import read_yaml

WRONG = {
    "ipc: 1\nseed: 1\nipc: 2\n": 'at line 3: the key "ipc" is given twice',
    "a:\n  b: 1\n  'b': 2\n": 'at line 3: the key "b" is given twice',
    "name: x\nfrom: 2024-13-45\n": "at line 2: 2024-13-45 is no value (month must be in 1..12); if it is a text,",
    "a: 0000-00-00": "at line 1: 0000-00-00 is no value",
    "a: 0x_": "at line 1: 0x_ is no value",
    "a: !!float x": "at line 1: x is no value",
    "x: " + "[" * 3000: "at line 1: too deeply nested",
    "x: " + "[" * 900 + "]" * 900: "at line 1: too deeply nested",
    "a: 1\nb: \x07": "at line 2: the character #x07 is not allowed",
    "a: 1\n\tb: 2": "at line 2: ",
    "a: [1, 2": "at line 1: expected ',' or ']'",
    "a: *nothing": "at line 1: found undefined alias",
    "a: !!python/object:os.system x": "at line 1: could not determine a constructor",
    "a: &a [*a]": "at line 1: too many values",
    "a: &a [x, x]\n" + "\n".join(f"{c}: &{c} [*{p}, *{p}, *{p}, *{p}]" for p, c in pairwise("abcdefghij")): "too many",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_its_place(text: str) -> None:
    with pytest.raises(ValueError) as told:
        read_yaml(text)
    assert WRONG[text] in str(told.value)
    assert "\n" not in str(told.value)


def test_what_is_right_is_read_as_ever() -> None:
    text = "a: &x {k: 1, m: [1, no, 2024-01-02]}\nb: {<<: *x, k: 2}\n? [1, 2]\n: 3\n"
    with pytest.raises(ValueError, match="unhashable"):
        read_yaml(text)
    text = text.partition("?")[0]
    assert read_yaml(text) == yaml.safe_load(text)
    assert read_yaml("") is None
    assert read_yaml("[001, no]", yaml.BaseLoader) == ["001", "no"]


@given(st.text("ab:,[]{}&*<!'\"#|>-? \n\t\x00\ud8001.", max_size=40))
def test_any_text_is_read_or_refused_in_a_line(text: str) -> None:
    try:
        read_yaml(text)
    except ValueError as error:
        assert str(error).startswith("at line ")
        assert "\n" not in str(error)


def test_a_recipe_is_refused_by_its_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mine.yaml").write_text("data: reef\nmethod: random\nseed: 1\nseed: 2\n")
    with pytest.raises(ConcordError, match=r'^recipe ".*mine.yaml" at line 4: the key "seed" is given twice$'):
        load(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("data: reef\nmethod: random\n")
    with pytest.raises(ConcordError, match="classes: cannot read the value"):
        load(str(tmp_path / "mine.yaml"), ["classes=[a, {b: 1, b: 2}]"])
