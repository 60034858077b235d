"""Networks of a configuration with random weights: what they cost is known before anything is downloaded."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from concord.errors import ConcordError
from concord.models.configurations import Configuration
from concord.models.encoder import Encoder
from concord.models.preprocess import Preprocess
from concord.models.pretrained import loading

_SPECIAL = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
"""CLIP's own ends of a text."""


@contextmanager
def random_weights(dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Iterator[None]:
    """Networks that are built inside have weights of this type, there, drawn anew by one seed; draws outside stay."""
    before = torch.get_default_dtype()
    devices = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def network(files: Configuration, part: str = "") -> Any:
    """A network of diffusers, or a scheduler: a component of a pipeline, or for "" the model itself."""
    import diffusers

    name = "scheduler_config.json" if "scheduler" in part else "config.json"
    config = copy.deepcopy(dict(files[f"{part}/{name}" if part else name]))
    library, shape = files.get("model_index.json", {}).get(part) or ("diffusers", config["_class_name"])
    # A class of one pipeline goes by the name of its folder there, as in model_index.json.
    module = diffusers if library == "diffusers" else getattr(diffusers.pipelines, library)
    return getattr(module, shape).from_config(config)


def pipeline(files: Configuration, model: str) -> Any:
    """A diffusers pipeline; its tokenizers know no words, and texts cost what they cost.

    model: what it is called in errors. It names no classes, so that class ids are taken as they are. Raises
    ConcordError: a component that is not known how to build.
    """
    import diffusers

    index = files["model_index.json"]
    parts = {name: value for name, value in index.items() if isinstance(value, list | tuple)}
    with loading(model, "pipeline.model"):
        built = {name: _part(files, name, value, model) for name, value in parts.items()}
        found = getattr(diffusers, index["_class_name"])(**built)
    found.set_progress_bar_config(disable=True)
    return found


def encoder(files: Configuration, model: str, key: str = "encoder") -> Encoder:
    """An image-text encoder, whose tokenizer knows no words. model, key: what it is called in errors."""
    from transformers import AutoConfig, AutoModel

    with loading(model, key):
        config = dict(files["config.json"])
        shape = AutoConfig.for_model(config.pop("model_type"), **config)
        built = AutoModel.from_config(shape)
    text = getattr(shape, "text_config", shape)
    return Encoder(built, tokenizer(int(text.max_position_embeddings), int(text.vocab_size)), _preprocess(files, model))


def tokenizer(length: int, vocabulary: int) -> Any:
    """A tokenizer that takes every word for the same one, cut or padded to `length` as any other."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    start, end = _SPECIAL
    ends = _SPECIAL if vocabulary > max(_SPECIAL.values()) else {start: vocabulary - 2, end: vocabulary - 1}
    core = Tokenizer(WordLevel({"<word>": 0, **ends}, unk_token="<word>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=list(ends.items()))
    special = {"bos_token": start, "eos_token": end, "unk_token": "<word>", "pad_token": end}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=length, **special)


def _part(files: Configuration, name: str, value: Any, model: str) -> Any:
    """A component of a pipeline, by its entry in model_index.json."""
    import transformers

    library, shape = value
    if shape is None:
        return None
    if library != "transformers":
        return network(files, name)
    if "Tokenizer" in shape:
        tower = files.get(f"{name.replace('tokenizer', 'text_encoder')}/config.json", {})
        length = files.get(f"{name}/tokenizer_config.json", {}).get("model_max_length", 77)
        return tokenizer(int(min(length, tower.get("max_position_embeddings", length))), int(tower["vocab_size"]))
    if settings := files.get(f"{name}/preprocessor_config.json"):
        return getattr(transformers, shape).from_dict(dict(settings))
    if f"{name}/config.json" not in files:
        raise ConcordError(f'"{model}" has no configuration of its {name}, so that it cannot be rehearsed')
    kind = getattr(transformers, shape)
    return kind(kind.config_class.from_dict(dict(files[f"{name}/config.json"])))


def _preprocess(files: Configuration, model: str) -> Preprocess:
    settings: Mapping[str, Any] | None = files.get("preprocessor_config.json")
    if settings is None:
        raise ConcordError(f'"{model}" has no preprocessor_config.json, so that it cannot be rehearsed')
    return Preprocess.from_config(settings)
