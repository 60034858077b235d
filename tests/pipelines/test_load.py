"""A pipeline's class says which family makes its images: by name before its weights are read, by ancestry after."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
import torch
from diffusers import DiTPipeline, StableDiffusionXLPipeline

import tiny
import tiny_pipelines
from concord import registry
from concord.data import ClassSpec, class_table
from concord.errors import ConcordError
from concord.guidance import ConceptGuide
from concord.pipelines.any import AnyPipeline
from concord.pipelines.base import Planned, sample_images
from concord.pipelines.dit import DiT
from concord.pipelines.load import family_of, load_family, recipe_family
from concord.pipelines.text import Text
from concord.pipelines.unclip import UnCLIP
from concord.plan import Sample
from concord.recipe import Pipeline, validate


class OwnDiT(DiTPipeline):
    """As somebody else would have it, with a class of their own."""


class OwnXL(StableDiffusionXLPipeline):
    pass


def test_a_family_follows_from_the_pipelines_class(tmp_path: Path) -> None:
    for name, family in (("unclip", UnCLIP), ("sd", Text), ("sana", AnyPipeline)):
        pipeline = tiny_pipelines.pipeline(name)
        assert type(load_family(pipeline)) is family
    tiny.pipeline().save_pretrained(tmp_path)
    assert type(load_family(str(tmp_path))) is DiT
    assert load_family(str(tmp_path), dtype=torch.bfloat16).denoiser.dtype == torch.bfloat16


def test_a_subclass_is_taken_for_what_it_is() -> None:
    own = OwnDiT(**tiny.pipeline().components)
    assert type(load_family(own)) is DiT
    model = load_family(OwnXL(**tiny_pipelines.pipeline("xl").components))
    assert type(model) is Text
    assert sample_images(model.denoise(["a cat"]), seeds=[1], steps=2, scheduler="stock").shape[:2] == (1, 3)


def test_a_class_is_known_by_its_name_alone_and_by_what_it_derives_from() -> None:
    def family(name: str, *among: str) -> str | None:
        spec = family_of(name, among)
        return spec and spec.name

    assert family("DiTPipeline") == "dit"
    assert family("FluxPipeline") == "any"  # diffusers has it, and nobody else claims it
    assert family("DiTPipeline", "text", "any") == "any"
    assert family("DiTPipeline", "unclip") is None
    assert family("NobodysPipeline") is None


def recipe(**values: object) -> registry.FamilySpec:
    return recipe_family(validate({"data": "reef", **values}))


def test_a_method_takes_its_families_and_generate_takes_any(tmp_path: Path) -> None:
    def index(name: str) -> dict[str, str]:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "model_index.json").write_text(json.dumps({"_class_name": name}))
        return {"model": str(tmp_path / name)}

    assert recipe(method="generate", pipeline=index("StableUnCLIPImg2ImgPipeline")).name == "unclip"
    assert recipe(method="generate", pipeline=index("DiTPipeline")).name == "dit"
    assert recipe(method="text", pipeline=index("FluxPipeline")).name == "any"
    assert recipe(method="text", pipeline={"model": "owner/not-here"}).name == "text"
    with pytest.raises(ConcordError, match="is a NobodysPipeline, but no installed package knows it; set"):
        recipe(method="generate", pipeline=index("NobodysPipeline"))
    with pytest.raises(ConcordError, match="is a FluxPipeline, but the recipe's method needs a DiTPipeline; set"):
        recipe(method="dit", pipeline=index("FluxPipeline"))


FAMILY = registry.FamilySpec("mine", ("test_load:OwnDiT",), "test_load:DiT", "a stranger's", frozenset({"class"}))


def test_a_strangers_family_is_one_specification_and_a_broken_one_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(registry.FAMILIES.added, "mine", FAMILY)
    broken = [metadata.EntryPoint("broken", "no_such_package:FAMILY", "concord.families")]
    monkeypatch.setitem(registry._entries()["concord.families"], "broken", broken)  # type: ignore[arg-type]
    OwnDiT(**tiny.pipeline().components).save_pretrained(tmp_path)
    assert recipe(method="generate", pipeline={"model": str(tmp_path)}).name == "mine"
    model = load_family(str(tmp_path))
    assert type(model.pipeline) is OwnDiT  # which diffusers does not know
    assert "no_such_package" in caplog.text


def test_images_of_a_class_in_four_lines() -> None:
    model = load_family(tiny.pipeline())
    plain = sample_images(model.denoise([1]), seeds=[1], steps=4)
    guide = ConceptGuide.for_texts(model, tiny.encoder(), positives=["cat"], negatives=["dog"], strength=0.3)
    informed = sample_images(model.denoise([1]), seeds=[1], steps=4, guides=[guide])
    assert plain.shape == informed.shape == (1, 3, tiny.PIXELS, tiny.PIXELS)
    again = sample_images(model.denoise([1]), seeds=[torch.Generator().manual_seed(1)], steps=4)
    assert torch.equal(again, plain)
    assert float(guide.encoder.images(informed) @ guide.encoder.texts(["cat"])[0]) != pytest.approx(  # type: ignore[union-attr]
        float(guide.encoder.images(plain) @ guide.encoder.texts(["cat"])[0])  # type: ignore[union-attr]
    )


def test_class_ids_are_those_of_the_data_at_hand() -> None:
    class Data:
        def __init__(self, *names: str) -> None:
            self.classes = class_table([ClassSpec(name) for name in names])

    model = DiT(tiny.pipeline())
    model.labels = {"cat": 3, "dog": 5, "bird": 7}
    asked: list[list[int]] = []
    model.denoise = lambda labels, *_: asked.append(list(labels))  # type: ignore[method-assign,assignment,func-returns-value]
    for data in (Data("cat", "dog"), Data("bird", "dog")):
        model.denoise_samples(Planned([Sample(0, 0, 1), Sample(1, 0, 2)], data, Pipeline(), []))  # type: ignore[arg-type]
    assert asked == [[3, 5], [7, 5]]
