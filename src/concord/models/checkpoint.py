"""Reading checkpoints of others: tensors only, whatever the pickle would like to run."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from concord.choices import Weights
from concord.errors import ConcordError
from concord.storage.torch_file import load_torch_file


def read_checkpoint(path: Path, weights: Weights = "ema") -> dict[str, Tensor]:
    """Read a state dict from a `.pt` or `.safetensors` file, mapped into memory rather than copied where possible.

    A training checkpoint of DiT or Minimax, {"model", "ema", "opt", "args"}, gives the part that `weights` names; their
    samplers take "ema". Any other file is a state dict itself. A prefix ``module.`` that all keys have (it comes from
    DistributedDataParallel) is dropped. Raises ConcordError: no such file, not a checkpoint, a pickle with other
    objects than tensors, plain containers and the `argparse.Namespace` of "args", or no such part.
    """
    if not path.is_file():
        raise ConcordError(f"{path}: there is no such file; give a `.pt` or `.safetensors` checkpoint")
    content: Any = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    held = content if isinstance(content, Mapping) else {}
    parts = [part for part in ("ema", "model") if isinstance(held.get(part), Mapping)]
    if parts and weights not in parts:
        raise ConcordError(f'{path} holds no "{weights}" weights, only "{parts[0]}"; give `--weights {parts[0]}`')
    state = content[weights] if parts else content
    if not isinstance(state, Mapping) or not state:
        raise ConcordError(f"{path} holds no state dict: expected names and tensors, got {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            what = f'its "{name}" is a {type(value).__name__}, not a named tensor'
            raise ConcordError(f"{path} holds no state dict: {what}")
    wrapped = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if wrapped else name: value for name, value in state.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as cause:
        raise ConcordError(f"{path} is no safetensors file, or a torn one: {cause}") from cause


def _pickle(path: Path) -> Any:
    # Training scripts store their parsed arguments beside the weights: a Namespace of plain values, and harmless.
    way = "only tensors, plain containers and argparse.Namespace are read. Save the state dict alone, or as safetensors"
    return load_torch_file(path, "checkpoint of torch", way, [argparse.Namespace])
