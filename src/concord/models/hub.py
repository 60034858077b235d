"""Where models lie, inside the package and in the hub's cache, and under which licence they stand."""

import contextlib
import hashlib
import os
from pathlib import Path

from concord.errors import ConcordError
from concord.storage.atomic import read_json
from concord.text import nearest

_LICENCES = {
    "facebook/DiT-XL-2-256": "CC-BY-NC-4.0",
    "facebook/DiT-XL-2-512": "CC-BY-NC-4.0",
    "radames/stable-diffusion-2-1-unclip-img2img": "CreativeML Open RAIL++-M",
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": "MIT",
    "madebyollin/taesd": "MIT",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "CreativeML Open RAIL-M",
    "h94/IP-Adapter": "Apache-2.0",
    "google/siglip-base-patch16-224": "Apache-2.0",
}
UNKNOWN = "licence not known here"


def licence(model: str) -> str:
    """Return a model's licence as its publisher names it; ``licence not known here`` for any other."""
    if model.startswith(("reef:", "models/reef")):
        return "Apache-2.0"
    if model.startswith("models/minimax"):
        return "CC-BY-NC-4.0, as DiT"
    return _LICENCES.get(model, UNKNOWN)


OPTIONAL_PARTS = ("safety_checker",)
"""Components that a pipeline's index may name and that are not loaded here, so that they may be missing."""
WEIGHTS = (".safetensors", ".pth", ".pt")
"""Names of files that hold the weights of one network."""
_END = 2**16
"""Bytes of a file's beginning and end that its trace has: weights that were trained otherwise differ in any."""
REEF_WEIGHTS = Path(__file__).parents[1] / "reef" / "weights"


def model_path(model: str) -> str:
    """Translate a recipe's model string into what ``from_pretrained`` takes.

    ``reef:NAME`` is a directory of the package; anything else (a local directory, a hub id) is left as it is, but for a
    leading ``~``, which no library expands. Raises ConcordError: the package holds no such weights.
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
    model those beside its config.json. Where an index names shards, all of them. An IP-Adapter has neither: it needs a
    file with "adapter" in its name, and the weights of each image encoder that is there.
    """
    index = read_json(directory / "model_index.json")
    if index:
        named = [name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
        parts = [directory / name for name in named if name not in OPTIONAL_PARTS]
        return all(part.is_dir() and (_has_weights(part) or not (part / "config.json").is_file()) for part in parts)
    if (directory / "config.json").is_file():
        return _has_weights(directory)
    # An IP-Adapter is one file; where it brings an image encoder, that lies beside it.
    adapters = [one for one in (*directory.glob("*.safetensors"), *directory.glob("*/*.safetensors")) if one.is_file()]
    encoders = [*directory.glob("image_encoder/config.json"), *directory.glob("*/image_encoder/config.json")]
    return any("adapter" in one.name for one in adapters) and all(_has_weights(one.parent) for one in encoders)


def _has_weights(directory: Path) -> bool:
    maps = (read_json(file).get("weight_map", {}) for file in directory.glob("*.index*.json"))
    shards = {name for files in maps for name in files.values()}
    if shards:
        return all((directory / str(name)).is_file() for name in shards)
    return any(file.suffix in (".safetensors", ".bin") for file in directory.iterdir())


def trace_of(path: Path | None) -> str:
    """A digest that tells a model's files from others: their names and sizes, and the ends of each; "" of none."""
    if path is None:
        return ""
    digest = hashlib.sha256()
    for file in sorted(p for p in (path, *path.rglob("*")) if p.is_file()):
        digest.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        with open(file, "rb") as opened:
            digest.update(opened.read(_END))
            opened.seek(max(0, file.stat().st_size - _END))
            digest.update(opened.read())
    return digest.hexdigest()


def size_of(directory: Path) -> int:
    """Return the bytes of a file, or of all below a directory (links followed: the hub's cache is made of them)."""
    return sum(p.stat().st_size for p in (directory, *directory.rglob("*")) if p.is_file())
