"""Loading weights: whatever goes wrong becomes one line that names the recipe key to set."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.models.hub import find_model

PATIENCE = 3.0
"""Seconds in which a hub that is there answers."""


@contextmanager
def loading(model: str, key: str) -> Iterator[None]:
    """Turn a failure of `from_pretrained` into a ConcordError that names `model` and the recipe key that sets it.

    Only for the lines that read files: the libraries report missing and malformed ones as OSError, ValueError,
    SafetensorError (a torn file), RuntimeError (shapes that do not fit) or KeyError (an unknown architecture).
    A model that the cache has is taken from there at once where no hub can be reached.
    """
    from safetensors import SafetensorError

    _quiet()
    try:
        with _without_hub(model):
            yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as cause:
        first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        if Path(model).is_absolute() and not Path(model).exists():
            first = "there is no such directory"  # the libraries take it for a malformed hub id
        raise ConcordError(
            f'cannot load the model "{model}": {first.rstrip(".")}; set `{key}` to a directory that holds it, '
            "or to a model id whose weights are downloaded"
        ) from cause


@contextmanager
def _without_hub(model: str) -> Iterator[None]:
    """Ask no hub for a model that the cache has, where none answers.

    huggingface_hub asks for each file anew, and waits half a minute for each: three minutes for a CLIP.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if not (before or Path(model).exists()) and find_model(model) is not None and not hub_answers(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@cache
def hub_answers(endpoint: str) -> bool:
    """Whether anything answers at a hub's address, whatever it says; asked once a process."""
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=PATIENCE)
    except Exception:  # the hub's package has changed its client library before: its errors have no common name
        return False
    return True


def _quiet() -> None:
    """Silence the libraries' own progress bars and hints: a run has one progress display, and errors are raised."""
    import diffusers
    import huggingface_hub
    import transformers

    for library in (diffusers, huggingface_hub, transformers):
        library.utils.logging.set_verbosity_error()
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()


def check_complete(info: Mapping[str, Any], model: str, key: str) -> None:
    """Refuse weights that leave part of the network random, by their loading `info`; transformers itself only warns."""
    missing = sorted(str(name) for field in ("missing_keys", "mismatched_keys") for name in info.get(field, ()))
    if missing:
        raise ConcordError(
            f'the weights of "{model}" do not fit its architecture: {len(missing)} missing or of another shape, '
            f"such as {missing[0]}; set `{key}` to a complete checkpoint"
        )
