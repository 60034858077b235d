"""Published descriptor files become banks; what is left out is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concord.concepts.bank import Bank, find_class, load_bank, read_descriptors, write_bank
from concord.errors import ConcordError


def _file(folder: Path, content: Any) -> Path:
    path = folder / "descriptors_pets.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_descriptor_file_round_trips(tmp_path: Path) -> None:
    given_ = {"hen": ["two legs", "Red comb"], "käse": ["holes"]}
    bank, notes = read_descriptors(_file(tmp_path, given_))
    assert notes == []
    write_bank(bank, tmp_path / "new" / "bank.json")
    back = load_bank(str(tmp_path / "new" / "bank.json"))
    assert back == bank
    assert {name: list(entry.phrases) for name, entry in back.classes.items()} == given_
    assert back.name == "descriptors_pets"
    assert back.provenance["source"] == "descriptors_pets.json"
    assert read_descriptors(_file(tmp_path, given_), "farm")[0].name == "farm"


def test_nulls_and_empty_texts_are_left_out_with_a_note(tmp_path: Path) -> None:
    bank, notes = read_descriptors(_file(tmp_path, {"hen": ["two legs", "", None, " "], "cow": None, "pig": [""]}))
    assert {name: entry.phrases for name, entry in bank.classes.items()} == {"hen": ("two legs",)}
    assert len(notes) == 3
    assert '"hen": 3 empty phrases' in notes[0]
    assert '"cow"' in notes[1] and '"pig"' in notes[2]


def test_a_class_that_stands_there_twice_keeps_all_its_phrases(tmp_path: Path) -> None:
    bank, notes = read_descriptors(_file(tmp_path, '{"hen": ["two legs"], " hen ": ["a comb"], "hen": ["a beak"]}'))
    assert bank.phrases("hen") == ("two legs", "a comb", "a beak")
    assert len(notes) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "expected an object of class names, got a list"),
        ('"hen"', "got a text"),
        ("{}", "no class with a phrase"),
        ('{"hen": null}', "no class with a phrase"),
        ('{"hen": "two legs"}', 'class "hen": expected a list of phrases, got a text'),
        ('{"hen": {"a": ["b"]}}', "expected a list of phrases, got an object"),
        ('{"hen": ["two legs", 3]}', "expected texts in the list, got a number"),
        ('{"hen": [["two legs"]]}', "expected texts in the list, got a list"),
        ("[" * 100_000, "cannot read|is not JSON"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConcordError, match=message):
        read_descriptors(_file(tmp_path, content))


def test_a_bank_is_not_imported_again(tmp_path: Path) -> None:
    bank, _ = read_descriptors(_file(tmp_path, {"hen": ["two legs"]}))
    write_bank(bank, tmp_path / "bank.json")
    with pytest.raises(ConcordError, match="is a concept bank already"):
        read_descriptors(tmp_path / "bank.json")
    with pytest.raises(ConcordError, match="cannot read the descriptor file"):
        read_descriptors(tmp_path / "nowhere.json")


texts = st.text(st.characters(codec="utf-8"))


@given(st.dictionaries(texts, st.lists(texts | st.none(), max_size=4) | st.none(), max_size=5))
def test_any_file_of_the_form_gives_a_bank_or_a_refusal(tmp_path_factory: Any, content: dict[str, Any]) -> None:
    path = _file(tmp_path_factory.mktemp("d"), content)
    phrases = {" ".join(p.split()) for some in content.values() for p in some or [] if p and p.strip()}
    try:
        bank, notes = read_descriptors(path)
    except ConcordError:
        return
    assert {phrase for entry in bank.classes.values() for phrase in entry.phrases} <= phrases
    assert len(bank.classes) + len(notes) >= len(content)


def test_a_class_is_found_whatever_its_case_and_hyphens() -> None:
    data = {"schema": 1, "name": "x", "classes": {"T-Shirt": {"phrases": ["a collar"]}}}
    bank = Bank.model_validate(data)
    assert [name for _, name in find_class([bank, bank], "t shirt")] == ["T-Shirt", "T-Shirt"]
    with pytest.raises(ConcordError, match=r'no class "tshrt" in the bank "x" \(did you mean "T-Shirt"\?\)'):
        find_class([bank], "tshrt")
