"""Models fetched from the hub ahead of use: which files loading takes, how large they are, under which licence."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from concord.errors import ConcordError
from concord.models.hub import OPTIONAL_PARTS, hub_cache, licence
from concord.storage.atomic import read_json

_TEXTS = (".json", ".txt", ".model", ".jinja")
_WEIGHTS = re.compile(
    r"(?:^|/)(?:model|pytorch_model|diffusion_pytorch_model)(?P<shard>-\d+-of-\d+)?\.(?P<kind>safetensors|bin)$"
)
"""What `from_pretrained` of transformers and diffusers looks for; half-precision variants and other formats are not."""


@dataclass(frozen=True)
class Remote:
    """A model as the hub has it. files: path in the repository -> bytes, only those that loading takes.

    here: bytes of them that the cache has already.
    """

    model: str
    licence: str
    files: dict[str, int]
    here: int

    @property
    def bytes(self) -> int:
        return sum(self.files.values())

    @property
    def missing(self) -> int:
        return self.bytes - self.here


def hub_info(model: str, files: bool = False) -> Any:
    """Ask the hub, or the mirror that HF_ENDPOINT names, for what it knows of a model. files: with their sizes.

    Raises ConcordError: why it cannot be fetched, in words that follow the model's name.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise ConcordError("not in the cache, and HF_HUB_OFFLINE forbids to fetch it")
    # The hub's package has changed its client library before: what cannot connect is a relative of its own error.
    client_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        return HfApi().model_info(model, timeout=10, files_metadata=files)
    except GatedRepoError:
        raise ConcordError("the hub wants its licence accepted and a login first (hf auth login)") from None
    except RepositoryNotFoundError:
        raise ConcordError("the hub has no such model") from None
    except HFValidationError:
        raise ConcordError("neither a directory nor a hub id") from None
    except (client_error, OSError) as error:
        raise ConcordError(f"not in the cache, and the hub cannot be reached ({_reason(error)})") from None


def look(model: str, adapter: str | None = None) -> Remote:
    """Find out what fetching a model would take; of a pipeline its index is read, and nothing else is fetched.

    adapter: the file of the repository that is wanted, an IP-Adapter's; with it goes the image encoder beside it.

    Raises ConcordError: as `hub_info`; a repository that neither transformers nor diffusers could load.
    """
    from huggingface_hub import try_to_load_from_cache

    info = hub_info(model, files=True)
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    parts = [""]
    if "model_index.json" in sizes:
        index = read_json(Path(_fetched(model, ["model_index.json"])) / "model_index.json")
        parts = [n for n, v in index.items() if isinstance(v, list) and v[0] is not None and n not in OPTIONAL_PARTS]
    if adapter is not None:
        parts = [str(PurePosixPath(adapter).parent / "image_encoder")]
    further = ["model_index.json"] if adapter is None else [adapter]
    names = _needed(parts, list(sizes)) + [name for name in further if name in sizes]
    if adapter is not None and adapter not in sizes:
        raise ConcordError(f"the hub has it, but no {adapter} in it")
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise ConcordError("the hub has it, but not as transformers or diffusers read it (config.json and its weights)")
    card = info.card_data.to_dict() if info.card_data is not None else {}
    known, said = licence(model), card.get("license_name") or card.get("license")
    cached = [n for n in names if isinstance(try_to_load_from_cache(model, n, revision=info.sha), str)]
    return Remote(
        model=model,
        licence=str(said) if said and known == licence("") else known,
        files={name: sizes[name] for name in names},
        here=sum(sizes[name] for name in cached),
    )


def _needed(parts: Sequence[str], names: Sequence[str]) -> list[str]:
    """The files that loading takes, of the components' folders ("" for the top).

    Safetensors where every component with weights has such, else `.bin` of all: so diffusers chooses, too.
    """
    inside = {part: [n for n in names if str(PurePosixPath(n).parent) == (part or ".")] for part in parts}
    weights = {part: [m for n in found if (m := _WEIGHTS.search(n))] for part, found in inside.items()}
    kinds = [{match["kind"] for match in found} for found in weights.values() if found]
    kind = "safetensors" if all("safetensors" in one for one in kinds) else "bin"
    needed = []
    for part, found in inside.items():
        needed += [n for n in found if n.endswith(_TEXTS) and ".index." not in n and ".fp16" not in n]
        of_kind = [match for match in weights[part] if match["kind"] == kind] or weights[part]
        whole = [match.string for match in of_kind if not match["shard"]]
        needed += whole or [match.string for match in of_kind]
        if of_kind and not whole:
            needed += [n for n in found if n.endswith(f".{of_kind[0]['kind']}.index.json")]
    return needed


def fetch(remote: Remote, quiet: bool = False) -> Path:
    """Fetch a model's files into the hub's cache, checked by their sizes, and return its directory.

    A connection that drops is taken up again where it was; after a kill, files that are whole are kept.
    Raises ConcordError: the hub cannot be reached any more, or the disk is full.
    """
    return Path(_fetched(remote.model, list(remote.files), quiet))


def _fetched(model: str, names: list[str], quiet: bool = True) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    client_error: type[Exception] = HfHubHTTPError.__bases__[0]
    shown = not are_progress_bars_disabled()
    if quiet and shown:
        disable_progress_bars()
    try:
        return snapshot_download(model, allow_patterns=[glob.escape(name) for name in names])
    except (client_error, OSError) as error:
        raise ConcordError(
            f"fetching {model} broke off ({_reason(error)}); the same command goes on, files that are whole are kept"
            f" in {hub_cache()}"
        ) from None
    finally:
        if quiet and shown:
            enable_progress_bars()


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:80]
