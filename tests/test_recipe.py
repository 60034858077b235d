"""A key that is misread or silently ignored makes another set than the one that was asked for."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from concord import registry
from concord.errors import ConcordError
from concord.recipe import (
    RUNTIME_KEYS,
    Recipe,
    bundled,
    differing,
    identity,
    load,
    models,
    recipe_class,
    to_yaml,
    validate,
)
from concord.recipe.keys import markdown, rows, schema
from concord.recipe.model import LATER
from concord.settings import keys

PHOTOS = "data=/photos"


@pytest.mark.parametrize("name", bundled())
def test_bundled_recipes_load_and_survive_being_written_out(name: str, tmp_path: Path) -> None:
    recipe = load(name, [PHOTOS])
    assert recipe.name == name
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert load(str(tmp_path / "recipe.yaml")) == recipe
    # Resolved: every key is spelled out, none is left to a default that may change one day.
    written = yaml.safe_load(to_yaml(recipe))
    later = {key for key in keys(Recipe) if any(f"{key}.".startswith(f"{one}.") for one in LATER)}
    assert set(keys(Recipe)) - later <= set(_dotted(written))
    said = {"pipeline.ip_adapter"} if recipe.pipeline.ip_adapter else set()
    said |= {"informing.push"} if recipe.informing.push else set()
    said |= {key for key in later if f"{key}.".startswith("select.")} if recipe.select.kind != "none" else set()
    said |= {"pipeline.supply"} if recipe.pipeline.supply != "random" else set()
    assert later & set(_dotted(written)) == said, "a recipe without them is written as ever"


def _dotted(values: dict[str, object], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found.append(prefix + key)
        if isinstance(value, dict):
            found += _dotted(value, f"{prefix}{key}.")
    return found


def test_overrides_reach_every_depth() -> None:
    recipe = load(
        "photos",
        f"{PHOTOS} method=dit ipc=50 informing.mode=exact informing.objective.cosine=0.5"
        " informing.window=[0.2,0.8] format.kind=webp size=null"
        " concepts.negatives.kind=random workers=3 uninformed=yes informing.weight=1e-3".split(),
    )
    assert (recipe.ipc, recipe.informing.objective.cosine, recipe.informing.window) == (50, 0.5, (0.2, 0.8))
    assert (recipe.format.kind, recipe.concepts.negatives.kind) == ("webp", "random")
    assert (recipe.size, recipe.workers, recipe.uninformed, recipe.informing.weight) == (None, 3, True, 1e-3)
    assert recipe.concepts.keep == 5, "keys beside the one that was set keep their values"


def test_text_stays_text_whatever_yaml_would_make_of_it() -> None:
    recipe = load("custom", ["data=007", "classes=[001, no, 1e3]", "class_names.a.b=yes", "concepts.pinned.on=[off]"])
    assert recipe.data.endswith("/007")
    assert recipe.classes == ["001", "no", "1e3"]
    assert recipe.class_names == {"a.b": "yes"}
    assert recipe.concepts.pinned == {"on": ["off"]}
    assert load("photos", [PHOTOS, "classes=cat, big dog"]).classes == ["cat", "big dog"]
    assert load("photos", [PHOTOS, "classes=null"]).classes is None


_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(_text)
def test_any_data_path_arrives_as_it_was_typed(text: str) -> None:
    recipe = load("photos", [f"data=/root/{text}"])
    assert recipe.data == str(Path(f"/root/{text}"))


@settings(deadline=None)
@given(st.dictionaries(_text.filter(lambda t: "=" not in t and t == t.strip()), _text, max_size=3))
def test_any_class_can_be_renamed(names: dict[str, str]) -> None:
    recipe = load("photos", [PHOTOS, *(f"class_names.{key}={value}" for key, value in names.items())])
    assert recipe.class_names == names
    assert validate(yaml.safe_load(to_yaml(recipe))) == recipe


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_override_whatever_it_holds_ends_in_anything_but_a_line(key: str, value: str) -> None:
    try:
        load("photos", [PHOTOS, f"{key}={value}", f"ipc={value}", f"informing.window={value}", f"classes={value}"])
    except ConcordError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("icp=10", r'unknown key "icp" \(did you mean "ipc"\?\)'),
        ("strength=0.1", r'unknown key "strength" \(did you mean "informing.strength"\?\)'),
        ("informing.strenth=0.1", r'did you mean "informing.strength"'),
        ("pipline.steps=3", r'did you mean "pipeline.steps"'),
        ("guidence_scale=3", r'did you mean "pipeline.guidance_scale"'),
        ("ipc.x=3", 'unknown key "ipc.x"'),
        ("ipc", r"expected key=value, as in ipc=10, got \"ipc\""),
        ("=3", "expected key=value"),
        ("ipc=ten", "ipc: expected a whole number, got 'ten'"),
        ("ipc=0", "ipc: expected greater than 0, got 0"),
        ("method=radom", r"method: expected .*got 'radom' \(did you mean \"random\"\?\)"),
        ("workers=many", "workers: expected 'auto' or a whole number, got 'many'"),
        ("informing.window=[0.5, 0.2]", r"informing\.window: expected start below end"),
        ("informing.window=[0, 2]", r"informing\.window\.1: expected less than or equal to 1"),
        ("informing.objective.contrastive=0", r"informing\.objective: every weight is 0"),
        ("informing.objective.classifier=1", r"informing\.classifier: objective\.classifier needs a model"),
        ("scorer.kind=detector", r"scorer\.model: the detector needs a model"),
        ("scorer={kind: percentile, encoder: a}", r"scorer\.encoder: with kind percentile it is scorer\.model"),
        ("device=gpu", "device: expected auto, cpu, mps, cuda"),
        ("pipeline=DiT", "pipeline: expected keys and values, got 'DiT'"),
        ("informing.weight=.nan", r"informing\.weight: expected a finite number|informing\.weight: expected greater"),
        ("size=[", r'size: cannot read the value "\["'),
        ("data=", "data is missing: name a folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConcordError, match=message) as caught:
        load("photos", [PHOTOS, override])
    assert "\n" not in str(caught.value)


def test_all_wrong_keys_of_a_file_are_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: x\nipc: -1\npipeline: {stesp: 3}\nclasses: [1]\n")
    with pytest.raises(ConcordError) as caught:
        load(str(path))
    text = str(caught.value)
    assert "ipc: expected greater than 0, got -1" in text
    assert 'unknown key "pipeline.stesp" (did you mean "pipeline.steps"?)' in text
    assert "classes.0: expected text (in YAML, put it in quotes), got 1" in text


def test_an_unknown_recipe_names_the_nearest_and_the_bundled(tmp_path: Path) -> None:
    with pytest.raises(
        ConcordError, match=r'unknown recipe "Photo" \(did you mean "photos"\?\); bundled are .*, photos, reef'
    ):
        load("Photo")
    with pytest.raises(ConcordError, match="unknown recipe"):
        load(str(tmp_path))
    (tmp_path / "bad.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(ConcordError, match="at line 2"):
        load(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConcordError, match="expected keys and values"):
        load(str(tmp_path / "list.yaml"))
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConcordError, match="is not a recipe"):
        load(str(tmp_path / "image.yaml"))


def test_data_is_required_and_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConcordError, match="data is missing: name a folder"):
        load("photos")
    monkeypatch.chdir(tmp_path)
    assert load("photos", ["data=mine"]).data == str(tmp_path / "mine")
    assert load("photos", ["data=reef"]).data == "reef"


def test_identity_is_what_decides_an_image() -> None:
    dit = [PHOTOS, "method=dit"]
    base = load("photos", dit)
    changes = ["device=cpu", "workers=2", "threads=3", "unreadable=skip", "memory.vae=tiled", "ipc=50", "name=x"]
    changes += ["fingerprint=all", "max_pixels=9"]
    assert {c.split("=")[0].split(".")[0] for c in changes} == RUNTIME_KEYS | {"ipc", "name"}
    assert identity(load("photos", [*dit, *changes])) == identity(base)
    other = load("photos", [*dit, "seed=1", "informing.strength=0.2", "class_names.a.b=c", "pipeline.channels=3"])
    expected = ["class_names", "seed", "pipeline.channels", "informing.strength"]
    assert differing(identity(base), identity(other)) == expected


def test_every_key_is_known_to_be_identity_or_not() -> None:
    # A key that is added must be decided on: does it change what an image is?
    beside = {Recipe.model_fields[n].alias or n for n in Recipe.model_fields} - set(identity(load("photos", [PHOTOS])))
    how = {"device", "workers", "threads", "unreadable", "fingerprint", "memory", "max_pixels"}
    assert beside == {"ipc", "name", "metrics", *how, "guides", "grey_range", "select"}
    assert "guides" in identity(load("reef", ["guides=[repulsion]"])), "left out only where it is empty"
    assert identity(load("photos", [PHOTOS, "grey_range=[0,4095]"]))["grey_range"] == [0, 4095]
    with pytest.raises(
        ConcordError, match=r"grey_range: .*expected black below white, as in \[0, 4095\], got \[9, 9\]"
    ):
        load("photos", [PHOTOS, "grey_range=[9,9]"])


def test_only_models_that_will_be_loaded_are_asked_for() -> None:
    assert models(load("photos", [PHOTOS])) == {}
    dit = ["method=dit", PHOTOS]
    assert set(models(load("photos", dit))) == {"pipeline.model", "encoder"}
    assert set(models(load("photos", [*dit, "informing.enabled=false"]))) == {"pipeline.model"}
    tiny = models(load("photos", [*dit, "informing.decoder=tiny", "pipeline.tiny_decoder=t", "teacher=x"]))
    assert set(tiny) == {"pipeline.model", "pipeline.tiny_decoder", "encoder", "teacher"}


def test_the_papers_short_form_of_similar_negatives() -> None:
    negatives = load("custom", [PHOTOS, "concepts.negatives.kind=similar-8"]).concepts.negatives
    assert (negatives.kind, negatives.k) == ("similar", 8)
    assert load("custom", [PHOTOS, "concepts.negatives.kind=similar-k"]).concepts.negatives.kind == "similar"
    with pytest.raises(ConcordError, match=r"concepts\.negatives\.kind"):
        load("custom", [PHOTOS, "concepts.negatives.kind=alike-8"])


def test_a_home_directory_in_a_models_path(monkeypatch: pytest.MonkeyPatch) -> None:
    from concord.models.hub import model_path

    monkeypatch.setenv("HOME", "/somewhere")
    assert model_path("~/clip") == "/somewhere/clip"
    assert model_path("owner/name") == "owner/name"


def test_every_key_has_a_description() -> None:
    ours = (name for name in registry.METHODS if registry.METHODS.package(name).startswith("concord-distill "))
    of_recipes = {key for name in ours for key in keys(recipe_class(name))}
    assert {row["key"] for row in rows(plugins=False)} == {"extends", *of_recipes}
    assert [row["key"] for row in rows() if not row["description"].endswith(".")] == []


def test_the_page_and_the_schema_are_those_of_the_keys() -> None:
    page = Path(__file__).parents[1] / "docs" / "recipe.md"
    assert page.read_text(encoding="utf-8") == markdown(), "concord recipes --keys --markdown > docs/recipe.md"
    shipped = resources.files("concord") / "recipes" / "recipe.schema.json"
    assert json.loads(shipped.read_text(encoding="utf-8")) == schema(plugins=False), (
        "concord recipes --schema > src/concord/recipes/recipe.schema.json, where no other package adds to it"
    )


def test_guides_are_checked_by_their_own_settings_and_written_in_full(tmp_path: Path) -> None:
    recipe = load("reef", ["guides=[{name: repulsion, strength: 0.3}, repulsion]"])
    assert [guide["strength"] for guide in recipe.guides] == [0.3, 0.1]
    assert validate(yaml.safe_load(to_yaml(recipe))) == recipe
    assert differing(identity(load("reef")), identity(recipe)) == ["guides"]
    for guides, message in (
        ("[{name: repulsion, strenth: 1}]", r'guides.0: repulsion: unknown key "strenth" \(did you mean "strength"'),
        ("[repulsion, {name: repulsion, strength: -1}]", "guides.1: repulsion: strength: expected greater than"),
        ("[repulsio]", r'unknown guide "repulsio" \(did you mean "repulsion"'),
        ("[{strength: 1}]", "guides.0: name is missing"),
        ("[7]", "guides.0: expected keys and values, got 7"),
    ):
        with pytest.raises(ConcordError, match=message):
            load("reef", [f"guides={guides}"])
    with pytest.raises(ConcordError, match="guides: they move the samples of a diffusion model, and method random"):
        load("photos", [PHOTOS, "guides=[repulsion]"])


def test_metrics_are_those_of_a_run() -> None:
    assert load("reef", ["metrics=completeness"]).metrics == ["completeness"]
    with pytest.raises(ConcordError, match="metrics: top5 reads predictions: name it to concord evaluate"):
        load("reef", ["metrics=top5"])
    with pytest.raises(ConcordError, match=r'unknown metric "completenes" \(did you mean "completeness"'):
        load("reef", ["metrics=completenes"])


class First(BaseModel):
    """A stranger's settings, which forbid nothing and freeze nothing."""

    size: int = 2
    names: list[str] = []


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("first_plug")
    vars(module).update(
        first=registry.MethodSpec("first-of-all", "first_plug:build", "real", "A stranger's.", settings=First),
        taken=registry.MethodSpec("ipc", "first_plug:build", "real", "A stranger's.", settings=First),
    )
    monkeypatch.setitem(sys.modules, "first_plug", module)
    methods = dict(registry._entries()["concord.methods"])
    for name, value in (("first-of-all", "first_plug:first"), ("ipc", "first_plug:taken"), ("broken", "not_there:x")):
        methods[name] = [metadata.EntryPoint(name, value, "concord.methods")]
    found = {**registry._entries(), "concord.methods": methods}
    monkeypatch.setattr(registry, "_entries", lambda: found)


@pytest.mark.usefixtures("plugged")
def test_a_strangers_method_has_a_section_in_its_recipes_alone() -> None:
    recipe = load("photos", ["first-of-all.size=4", PHOTOS, "method=first-of-all"])
    assert isinstance(recipe.first_of_all, First) and recipe.first_of_all.size == 4  # type: ignore[attr-defined]
    assert to_yaml(recipe).endswith("first-of-all:\n  size: 4\n  names: []\n")
    other = load("photos", [PHOTOS, "method=first-of-all"])
    assert differing(identity(other), identity(recipe)) == ["first-of-all.size"]
    assert validate(yaml.safe_load(to_yaml(recipe))) == recipe == pickle.loads(pickle.dumps(recipe))
    assert copy.deepcopy(recipe) == recipe.model_copy(update={"ipc": recipe.ipc})
    assert "first-of-all" in schema()["properties"] and "first-of-all" not in schema(plugins=False)["properties"]
    assert "first-of-all.names" in {row["key"] for row in rows()}
    for overrides, message in (
        (["method=first-of-all", "first-of-all.sise=1"], r'unknown key "first-of-all.sise" \(did you mean'),
        (["method=first-of-all", "first-of-all.size=a"], "first-of-all.size: expected a whole number, got 'a'"),
        (["first-of-all.size=1"], 'unknown key "first-of-all.size"'),
        (["method=ipc"], "recipes have a ipc already"),
        (["method=broken"], "from the package not_there, which does not import"),
        (["method=dit", "pipeline.noise_level=1"], "pipeline.noise_level is for method unclip, not for dit"),
    ):
        with pytest.raises(ConcordError, match=message):
            load("photos", [PHOTOS, *overrides])
    assert pickle.loads(pickle.dumps(load("reef"))) == load("reef"), "what does not import harms no other method"


@pytest.mark.usefixtures("plugged")
def test_what_is_registered_is_listed_whatever_does_not_import(capsys: pytest.CaptureFixture[str]) -> None:
    from concord.cli.methods import methods as command

    command()
    lines = capsys.readouterr().out.splitlines()
    assert any("repulsion" in line and "concord-distill" in line and "Keys: strength" in line for line in lines)
    assert any("broken" in line and "not_there" in line and "does not import" in line for line in lines)
    command(as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in found["methods"]} >= {"dit", "rded", "first-of-all", "broken"}
    assert next(one for one in found["methods"] if one["name"] == "first-of-all")["keys"] == ["size", "names"]
