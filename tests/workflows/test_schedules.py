"""A schedule of which no step would be informed gives the uninformed set under the informed one's name."""

from pathlib import Path
from typing import Any

import pytest

import tiny_pipelines
from concord.errors import ConcordError
from concord.recipe import Recipe, load
from concord.workflows.distill import distill
from concord.workflows.preview import preview
from concord.workflows.requirements import check_sampling


def reef(*typed: str) -> Recipe:
    return load("reef", ["workers=1", *typed])


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("concord.methods.batch_sampler.load_family", loads)
    monkeypatch.setattr("concord.models.encoder.Encoder", loads)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("typed", "key"),
    [
        (["pipeline.steps=1"], "informing.window [0.5, 1.0] of 1 step leaves none"),
        (["pipeline.steps=4", "informing.window=[0.3,0.4]"], "informing.window [0.3, 0.4] of 4 steps"),
        (["pipeline.steps=1", "informing.enabled=false", "guides=[{name: repulsion, window: [0.5, 1]}]"], "guides.0"),
    ],
)
def test_it_is_an_error_before_anything_is_loaded_or_written(typed: list[str], key: str, tmp_path: Path) -> None:
    out = tmp_path / "set"
    for begin in (distill, preview):
        with pytest.raises(ConcordError) as caught:
            begin(reef(*typed), out)
        assert key in str(caught.value) and "raise pipeline.steps" in str(caught.value)
    assert not out.exists()


def text(model: Path, *typed: str) -> Recipe:
    few = ["data=/photos", "method=text", f"pipeline.model={model}", "concepts.bank=reef", "pipeline.steps=4"]
    return load("photos", [*few, *typed])


def test_the_first_step_of_a_flow_is_pure_noise_and_image_to_image_begins_late(tmp_path: Path) -> None:
    for name in ("sd", "sd3", "flux"):
        (tmp_path / name).mkdir()
        pipe = tiny_pipelines.pipeline(name)
        pipe.save_config(tmp_path / name)
        pipe.scheduler.save_pretrained(tmp_path / name / "scheduler")
    sd, flows = tmp_path / "sd", [tmp_path / "sd3", tmp_path / "flux"]
    check_sampling(text(sd, "informing.window=[0,0.2]"))
    for flow in flows:
        with pytest.raises(ConcordError, match="of 4 steps, of which the first 1 cannot be informed, leaves none"):
            check_sampling(text(flow, "informing.window=[0,0.2]"))
        check_sampling(text(flow, "informing.window=[0,0.5]", "informing.every=4"))
        with pytest.raises(ConcordError, match="of 1 step, of which the first 1 cannot"):
            check_sampling(text(flow, "pipeline.steps=1"))
    late = ["pipeline.image_strength=0.5", "informing.window=[0,0.5]"]
    check_sampling(text(sd, *late))  # PNDM has five steps, of which the third is in the window
    for model in (sd, tmp_path / "not-here"):
        with pytest.raises(ConcordError, match="of which the first 2 cannot be informed, leaves none"):
            check_sampling(text(model, *late, "pipeline.scheduler=ddim"))
    check_sampling(text(sd, late[0], "informing.window=[0.4,0.8]"))


def test_mean_informing_needs_ddpm_of_the_stock_scheduler_too(tmp_path: Path) -> None:
    pipe = tiny_pipelines.pipeline("sd")
    pipe.save_config(tmp_path)
    pipe.scheduler.save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ConcordError, match=r"informing\.mode mean \(Eq\. 6\) is for DDPM, not PNDMScheduler"):
        check_sampling(text(tmp_path, "informing.mode=mean"))
    check_sampling(text(tmp_path, "informing.mode=mean", "pipeline.scheduler=ddpm"))
