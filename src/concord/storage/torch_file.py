"""Reading what torch saved: tensors only, whatever the pickle would like to run."""

import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from concord.errors import ConcordError


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
