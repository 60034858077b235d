"""Settings as they are typed: what is read otherwise than meant trains something else than was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concord.errors import ConcordError
from concord.evaluation.protocols import DC, HARD, PROTOCOLS, RDED, Protocol, protocol
from concord.evaluation.settings import Settings, changed_protocol, read_settings
from concord.evaluation.train_teacher import TeacherSettings, read_teacher_settings


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("ipc=1,10,50", "ipc", [1, 10, 50]),
        ("ipc=[1, 10]", "ipc", [1, 10]),
        ("ipc=10", "ipc", [10]),
        ("ipc=1, 10,1", "ipc", [1, 10]),
        ("ipc=null", "ipc", None),
        ("seeds=3", "seeds", [0, 1, 2]),
        ("seeds=1", "seeds", [0]),
        ("seeds=0,5", "seeds", [0, 5]),
        ("seeds=[7]", "seeds", [7]),
        ("seeds=5,5,2", "seeds", [5, 2]),
        ("student=convnet-3", "student", ["convnet-3"]),
        ("student=convnet-3, resnet-18", "student", ["convnet-3", "resnet-18"]),
        ("student=[convnet-3, timm:vit_tiny_patch16_224]", "student", ["convnet-3", "timm:vit_tiny_patch16_224"]),
        ("protocol=rded,hard", "protocol", ["rded", "hard"]),
        ("classes=[001, no]", "classes", ["001", "no"]),
        ("teacher=007.safetensors", "teacher", "007.safetensors"),
        ("teacher=null", "teacher", None),
        ("size=64", "size", 64),
        ("norm=instance", "norm", "instance"),
        ("norm=none", "norm", "none"),
        ("norm=null", "norm", None),
        ("pool=none", "pool", "none"),
        ("width=8", "width", 8),
        ("remap=true", "remap", True),
        ("workers=2", "workers", 2),
        ("workers=auto", "workers", "auto"),
        ("dtype=bfloat16", "dtype", "bfloat16"),
        (" ipc =10", "ipc", [10]),
    ],
)
def test_a_setting_is_read_as_it_is_meant(text: str, key: str, value: Any) -> None:
    found, _ = read_settings([text])
    assert found.model_dump() == {**Settings().model_dump(), key: value}


def test_without_any_the_paper_is_followed() -> None:
    found, [way] = read_settings([])
    assert (found.student, found.seeds, found.ipc) == (["resnet-18"], [0, 1, 2], None)
    assert way.protocol == RDED
    assert way.changed == {}


AUGMENT, MIXING = RDED.augment.model_dump(), RDED.mixing.model_dump()


@pytest.mark.parametrize(
    ("text", "key", "value", "changed"),
    [
        ("epochs=5", "epochs", 5, {"epochs": 5}),
        ("lr=0.01", "lr", 0.01, {"lr": 0.01}),
        ("batch=7", "batch", 7, {"batch": 7}),
        ("batch=ipc", "batch", "ipc", {"batch": "ipc"}),
        ("batch=null", "batch", None, {"batch": None}),
        ("augment.crop=[0.2,1]", "augment", {**AUGMENT, "crop": (0.2, 1.0)}, {"augment.crop": [0.2, 1.0]}),
        ("augment.crop=null", "augment", {**AUGMENT, "crop": None}, {"augment.crop": None}),
        ("augment.dsa=color", "augment", {**AUGMENT, "dsa": "color"}, {"augment.dsa": "color"}),
        ("mixing.kind=none", "mixing", {**MIXING, "kind": "none"}, {"mixing.kind": "none"}),
        ("mixing.probability=0.5", "mixing", {**MIXING, "probability": 0.5}, {"mixing.probability": 0.5}),
        ("epochs=300", "epochs", 300, {}),  # what the preset has is no change
    ],
)
def test_a_protocols_setting_is_recorded_as_changed(text: str, key: str, value: Any, changed: dict[str, Any]) -> None:
    _, [way] = read_settings([text])
    assert dict(way.changed) == changed
    assert way.protocol.model_dump() == {**RDED.model_dump(), key: value}


def test_a_change_is_of_every_protocol_that_is_chosen() -> None:
    _, ways = read_settings(["protocol=rded,hard,dc", "epochs=300", "augment.flip=true"])
    assert [way.protocol.name for way in ways] == ["rded", "hard", "dc"]
    assert [dict(way.changed) for way in ways] == [{}, {"epochs": 300}, {"augment.flip": True}]
    assert ways[1].protocol.augment.color == HARD.augment.color  # the rest of a part stays
    assert DC.augment.flip is False  # and so does the preset


def test_the_later_of_two_holds() -> None:
    found, [way] = read_settings(["ipc=1", "ipc=10", "epochs=3", "epochs=4"])
    assert (found.ipc, way.protocol.epochs) == ([10], 4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("studnet=convnet-3", r'unknown key "studnet" \(did you mean "student"\?\)'),
        ("epoch=3", r'unknown key "epoch" \(did you mean "epochs"\?\)'),
        ("augment.flop=true", r'unknown key "augment\.flop" \(did you mean "augment\.flip"\?\)'),
        ("name=mine", 'unknown key "name"'),
        ("protocol=reded", r'unknown protocol "reded" \(did you mean "rded"\?\)'),
        ("ipc", 'expected key=value, as in ipc=10, got "ipc"'),
        ("10", 'expected key=value, as in ipc=10, got "10"'),
        ("=10", "unknown key"),
        ("ipc=0", "ipc.*greater than 0, got 0"),
        ("ipc=ten", "ipc.*a whole number, got 'ten'"),
        ("ipc=1.5", "ipc"),
        ("seeds=0", "seeds: expected a number of seeds from 1 to 1000, or a list of them as in 0,5, got 0"),
        ("seeds=-1", "seeds: expected a number of seeds"),
        ("seeds=999999999999", "seeds: expected a number of seeds"),
        ("seeds=[]", "seeds"),
        ("seeds=-1,2", "seeds.*greater than or equal to 0"),
        ("seeds=true", "seeds"),
        ("student=", "student"),
        ("student=[]", "student"),
        ("size=4", "size: expected.*greater than or equal to 8, got 4"),
        ("norm=batsch", r"norm: expected .*got 'batsch' \(did you mean \"batch\"\?\)"),
        ("device=tpu", "device: expected auto, cpu, mps, cuda or cuda:0, got 'tpu'"),
        ("workers=0", "workers: expected"),
        ("epochs=0", "epochs: expected.*greater than 0, got 0"),
        ("lr=.inf", "lr: expected a finite number, got inf"),
        ("lr=.nan", "lr: expected"),
        ("weight_decay=.inf", "weight_decay: expected a finite number, got inf"),
        ("temperature=0", "temperature"),
        ("batch=many", "batch: expected"),
        ("augment.crop=[1,0.2]", r"augment\.crop: expected the smaller share of the area first"),
        ("augment.crop=0.2", r"augment\.crop: expected a list, as in \[0, 1\], got 0\.2"),
        ("augment=3", "augment: expected keys and values, got 3"),
        ("augment.dsa=zoom", r'augment\.dsa: unknown operation "zoom"'),
        ("mixing.kind=cutout", r"mixing\.kind"),
        ("lr=[", 'lr: cannot read the value "\\["'),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(text: str, says: str) -> None:
    with pytest.raises(ConcordError, match=says) as error:
        read_settings([text])
    assert "\n" not in str(error.value)


MODELS = (Settings, Protocol, TeacherSettings)
KEYS = [*(key for model in MODELS for key in model.model_fields), "augment.crop", "mixing.alpha", ""]
VALUES = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="0123456789,.[]{}:-+e!&*#'\" ~_xnul", max_size=12),
    st.sampled_from(["2020-01-01", "!!set {a}", "{a: {b: c}}", "[[1]]", "9" * 400, "1e999", "0x1F", "&a [*a]", "1:30"]),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(KEYS), VALUES)
def test_free_text_is_read_or_refused(key: str, value: str) -> None:
    for read in (read_settings, read_teacher_settings):
        try:
            found = read([f"{key}={value}"])
        except ConcordError as error:
            assert str(error)
        else:
            settings_ = found[0]
            assert settings_.model_validate(settings_.model_dump()) == settings_


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_settings([text])
    except ConcordError as error:
        assert str(error)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_an_unchanged_protocol_is_the_preset(name: str) -> None:
    way = changed_protocol(protocol(name), [])
    assert (way.protocol, dict(way.changed)) == (protocol(name), {})


def test_a_teachers_settings_are_its_own_and_its_protocols() -> None:
    found, protocol = read_teacher_settings(["student=convnet-3", "size=32", "seed=4", "epochs=5", "norm=none"])
    assert (found.student, found.size, found.seed, found.norm) == ("convnet-3", 32, 4, "none")
    assert (protocol.name, protocol.epochs, protocol.labels) == ("teacher", 5, "hard")
    with pytest.raises(ConcordError, match="a teacher is trained with the set's own labels"):
        read_teacher_settings(["labels=soft"])
    with pytest.raises(ConcordError, match=r'unknown key "ipc"'):
        read_teacher_settings(["ipc=1"])


def test_hard_is_another_protocol_above_a_hundred_classes() -> None:
    """`argument.py` of Minimax; what is set by hand stays."""
    _, [way, rded] = read_settings(["protocol=hard,rded"])
    assert way.among(100) == way and rded.among(1000) == rded
    many = way.among(101).protocol
    assert (many.lr, many.weight_decay, many.batch, many.momentum) == (0.1, 1e-4, 128, 0.9)
    _, [way] = read_settings(["protocol=hard", "lr=0.05"])
    many = way.among(1000).protocol
    assert (many.lr, many.weight_decay) == (0.05, 1e-4)
    _, [way] = read_settings(["protocol=hard", "many=null"])
    assert way.among(1000).protocol.lr == 0.01


def test_a_group_stands_for_its_protocols_once() -> None:
    settings, ways = read_settings(["protocol=rded,regimes,all-hard", "epochs=3"])
    assert settings.protocol == ["rded", "fixed", "hard", "dc"]
    assert [way.protocol.epochs for way in ways] == [3] * 4
