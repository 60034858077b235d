"""Classifiers: labels in the logits' order, gradients to the pixels, no random heads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from concord.errors import ConcordError
from concord.models.classifier import Classifier
from concord.models.preprocess import Preprocess


def test_logits_and_labels_are_the_librarys_own(tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(str(tiny.save_classifier(tmp_path)))
    assert classifier.labels == ["cat", "dog", "eel"]
    pixels = (torch.rand(2, 3, 8, 8) * 2 - 1).requires_grad_()
    logits = classifier.logits(pixels)
    preprocess = Preprocess.from_config(tiny.preprocessor_config())
    torch.testing.assert_close(logits, tiny.resnet()(preprocess(pixels)).logits)
    (g,) = torch.autograd.grad(logits.square().sum(), pixels)
    assert g.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(p.requires_grad for p in classifier.model.parameters())


def test_an_images_logits_do_not_depend_on_its_batch(tmp_path: Path) -> None:
    """Batch norm must use its stored statistics."""
    classifier = Classifier.from_pretrained(str(tiny.save_classifier(tmp_path)))
    pixels = torch.rand(3, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(classifier.logits(pixels)[1:2], classifier.logits(pixels[1:2]))


def test_half_precision_gives_float32_logits(tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(str(tiny.save_classifier(tmp_path)), dtype=torch.bfloat16)
    assert classifier.logits(torch.zeros(1, 3, 8, 8)).dtype == torch.float32


def test_a_missing_model_names_its_key_and_a_random_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"set `informing\.classifier`"):
        Classifier.from_pretrained(str(tmp_path / "none"), key="informing.classifier")
    folder = tiny.save_classifier(tmp_path / "resnet")
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConcordError, match="do not fit its architecture"):
        Classifier.from_pretrained(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConcordError, match="set `teacher`"):
        Classifier.from_pretrained(str(folder))
