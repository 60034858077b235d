"""What torch saves: written whole or not at all, and read as tensors only, whatever the pickle would like to run."""

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from concord.errors import ConcordError
from concord.storage.atomic import write_atomically


def load_torch_file(path: Path, kind: str, way: str, harmless: Sequence[Any] = (), other_pickle: str = "") -> Any:
    """What `torch.save` left, on the CPU, mapped into memory where possible.

    Args:
        kind: what the file is said not to be where it is none, as in "checkpoint of torch".
        way: what an error advises where a pickle asks for code.
        harmless: classes and functions that a pickle may ask for, beside tensors and plain containers.
        other_pickle: what a pickle that torch did not write is said to be; it is no `kind` where nothing is said.

    Raises:
        ConcordError: it is no such file, a torn one, or its pickle asks for anything else.
        OSError: the system refuses it.
    """
    path.open("rb").close()  # what the system refuses is an OSError here; below, one would mean a torn file
    try:
        with torch.serialization.safe_globals([*harmless]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of pickles that are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as cause:  # a damaged file can raise anything, a KeyError included
        foreign = re.search(r"GLOBAL ((?:\w+\.)*\w+) (?:was not|whose)", str(cause))
        with path.open("rb") as file:
            is_other = bool(other_pickle) and file.read(1) == b"\x80"
        if foreign is None and not is_other:
            raise ConcordError(f"{path} is no {kind}, or a torn one ({type(cause).__name__})") from cause
        asks = f"its pickle asks for {foreign[1]}" if foreign else other_pickle
        raise ConcordError(f"{path} is refused: {asks}, and loading that could run foreign code; {way}") from cause


def save_torch_file(path: Path, values: Any) -> None:
    """Write what `torch.save` makes of tensors in plain containers; a kill leaves the file as it was."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    write_atomically(path, buffer.getvalue())


def write_checkpoint(part: Path, identity: str, values: Mapping[str, Any]) -> None:
    """Keep where a training is, for `read_checkpoint`; identity: what tells it from any other."""
    save_torch_file(part, {"identity": identity, **values})


def read_checkpoint(part: Path, identity: str, *keys: str) -> dict[str, Any] | None:
    """What an earlier call kept of the same training under these keys, on the CPU; None where there is nothing.

    Raises ConcordError: it is damaged, or of a training with another identity.
    """
    if not part.is_file():
        return None
    try:
        values: dict[str, Any] = torch.load(part, map_location="cpu", weights_only=True)
        known, values = values["identity"], {key: values[key] for key in keys}
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ConcordError(f"{part} is damaged; take it away to begin anew") from error
    if known != identity:
        other = f"{part} is of a training with other settings or images"
        raise ConcordError(f"{other}; take it away, or give another --out")
    return values
