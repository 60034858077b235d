"""Where things lie: the models inside the package, the hub's cache, the device to compute on."""

from __future__ import annotations

import contextlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from concord.errors import ConcordError, nearest

WEIGHTS = (".safetensors", ".pth", ".pt")
"""Names of files that hold the weights of one network."""
REEF_WEIGHTS = Path(__file__).parent / "reef" / "weights"


def version() -> str:
    """Return the installed version of concord, or ``0+source`` when it runs from a checkout."""
    return package_version("concord-distill") or "0+source"


def package_version(distribution: str) -> str | None:
    """Return the installed version of a distribution without importing it, or None where it is missing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def model_path(model: str) -> str:
    """Translate a recipe's model string into what ``from_pretrained`` takes.

    ``reef:NAME`` is a directory of the package; anything else (a local directory, a hub id) is left as it is, but for a
    leading ``~``, which no library expands.

    Raises:
        ConcordError: the package holds no such weights.
    """
    if not model.startswith("reef:"):
        return str(Path(model).expanduser()) if model.startswith("~") else model
    name = model.removeprefix("reef:")
    path = REEF_WEIGHTS / name
    # A name is a path below the weights, as in reef:pipeline/vae, and never leaves them.
    if not path.is_dir() or ".." in Path(name).parts or Path(name).is_absolute():
        present = sorted(p.name for p in REEF_WEIGHTS.iterdir() if p.is_dir()) if REEF_WEIGHTS.is_dir() else []
        known = ", ".join(f"reef:{n}" for n in present) or "none (the weights are not installed)"
        raise ConcordError(f'no weights "{model}" in the package{nearest(name, present)}; there are: {known}')
    return str(path)


def hub_cache() -> Path:
    """Return the directory where downloaded models lie, as huggingface_hub decides it."""
    home = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or str(Path(home) / "hub")
    return Path(os.path.expandvars(cache)).expanduser()


def find_model(model: str) -> Path | None:
    """Return the directory or file that holds a model here, or None: it is missing or would be downloaded."""
    try:
        local = Path(model_path(model)).expanduser()
    except ConcordError:
        return None
    if local.is_dir() or (local.suffix in WEIGHTS and local.is_file()):
        return local
    cached = hub_cache() / f"models--{model.replace('/', '--')}"
    with contextlib.suppress(OSError):
        current = cached / "snapshots" / (cached / "refs" / "main").read_text(encoding="utf-8").strip()
        if is_complete(current):
            return current
    snapshots = cached / "snapshots"
    found = sorted(snapshots.iterdir(), key=lambda p: p.stat().st_mtime) if snapshots.is_dir() else []
    return next((path for path in reversed(found) if is_complete(path)), None)


def is_complete(directory: Path) -> bool:
    """Say whether a model's directory has its weights: a download that was broken off leaves only part of them.

    A pipeline needs the weights of each component that model_index.json names and that has a config.json; any other
    model those beside its config.json. Where an index names shards, all of them.
    """
    index = _json(directory / "model_index.json")
    if index:
        parts = [directory / name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
        return all(part.is_dir() and (_has_weights(part) or not (part / "config.json").is_file()) for part in parts)
    return (directory / "config.json").is_file() and _has_weights(directory)


def _has_weights(directory: Path) -> bool:
    shards = {name for file in directory.glob("*.index*.json") for name in _json(file).get("weight_map", {}).values()}
    if shards:
        return all((directory / str(name)).is_file() for name in shards)
    return any(file.suffix in (".safetensors", ".bin") for file in directory.iterdir())


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def size_of(directory: Path) -> int:
    """Return the bytes of a file, or of all below a directory (links followed: the hub's cache is made of them)."""
    if directory.is_file():
        return directory.stat().st_size
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def resolve_device(device: str) -> str:
    """Return the device to compute on: what was asked for, or for ``auto`` CUDA, else MPS, else the CPU.

    Raises:
        ConcordError: the device that was asked for is not there.
    """
    import torch  # imported here: planning and real-image methods never need it

    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = device.partition(":")
    there = {"cpu": True, "cuda": cuda, "mps": mps}.get(kind, False)
    if there and kind == "cuda" and number:
        there = number.isdigit() and int(number) < torch.cuda.device_count()
    if not there:
        here = ", ".join(name for name, is_there in (("cuda", cuda), ("mps", mps), ("cpu", True)) if is_there)
        raise ConcordError(f'device "{device}" is not available here (there is: {here}); give device=auto')
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """Return what the networks compute in: what was asked for, or for ``auto`` bfloat16 on CUDA and float32 elsewhere.

    A GPU without bfloat16 of its own (before Ampere) computes in float32: float16 lets CLIP's gradients underflow.
    """
    if dtype != "auto":
        return dtype
    if not device.startswith("cuda"):
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Return the bytes of memory that this process may hope for, a container's limit included."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 2**30
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total
