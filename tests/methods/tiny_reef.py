"""Random models of the real classes for reef, in a folder, and a recipe that takes them."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetForImageClassification

import tiny
from concord.recipe import Recipe, validate
from concord.reef.models import TEXT_LENGTH, preprocessor_config, tokenizer
from concord.reef.text import PHRASES
from concord.reef.world import SPECIES

PHOTOGRAPHED = ["coral perch", "river perch", "lagoon wrasse"]
"""Species of which there are small image files, too."""


def _save_clip(folder: Path) -> None:
    tokenizer().save_pretrained(folder)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        "vocab_size": len(tokenizer()),
        "max_position_embeddings": TEXT_LENGTH,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
    }
    torch.manual_seed(5)
    CLIPModel(
        CLIPConfig(
            text_config=shape | text, vision_config=shape | {"image_size": 16, "patch_size": 8}, projection_dim=8
        )
    ).save_pretrained(folder)
    config = preprocessor_config() | {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


def _save_classifier(folder: Path, labels: list[str]) -> None:
    torch.manual_seed(6)
    ResNetForImageClassification(
        ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", id2label=dict(enumerate(labels))
        )
    ).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config()))


def save_models(folder: Path) -> Path:
    tiny.pipeline(learned_variance=False).save_pretrained(folder / "pipeline")
    index = folder / "pipeline" / "model_index.json"
    names = {i: s.name for i, s in enumerate(SPECIES)}
    index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": names}))
    _save_clip(folder / "clip")
    _save_classifier(folder / "detector", list(PHRASES.values()))
    _save_classifier(folder / "teacher", [s.name for s in SPECIES])
    _save_classifier(folder / "nuisance", [f"n{i}" for i in range(4)])
    return folder


def reef_recipe(models: Path, **changes: object) -> Recipe:
    values: dict[str, object] = {
        "name": "test",
        "data": "reef",
        "ipc": 1,
        "batch_size": 4,
        "uninformed": True,
        "encoder": str(models / "clip"),
        "pipeline": {"model": str(models / "pipeline"), "steps": 2, "guidance_scale": 2.0},
        "informing": {"strength": 0.5},
        "concepts": {"bank": "reef", "images": 2},
        "scorer": {"kind": "detector", "model": str(models / "detector")},
        "teacher": str(models / "teacher"),
        "nuisance": str(models / "nuisance"),
        "workers": 1,
    }
    return validate(values | changes)


def with_tiny(models: Path, **changes: Any) -> Recipe:
    """Five classes, so that a batch of four is followed by one of another size; a tiny decoder, nothing scored."""
    if not (models / "taesd").exists():
        tiny.tiny_autoencoder().save_pretrained(models / "taesd")
    pipeline = {"model": str(models / "pipeline"), "steps": 4, "guidance_scale": 2.0}
    informing = {"strength": 0.5, "decoder": "tiny", **changes.pop("informing", {})}
    values: dict[str, Any] = {
        "pipeline": pipeline | {"tiny_decoder": str(models / "taesd")},
        "informing": informing,
        "uninformed": False,
        "scorer": {"kind": "none"},
        "teacher": None,
        "nuisance": None,
        "classes": [s.name for s in SPECIES[::2]],
    }
    return reef_recipe(models, **{**values, **changes})
