"""How work that takes a while tells how it gets on: one protocol for every command; the command line draws it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Progress(Protocol):
    """Hears how a run, an evaluation, a training or a retrieval gets on."""

    def stage(self, text: str) -> None:
        """Something that takes a while begins."""
        return None

    def note(self, text: str) -> None:
        """Something that the user should know."""
        return None

    def begin(self, total: int, done: int) -> None:
        """Units (images, trainings, epochs, classes) are counted from here: `total`, of which `done` are there."""
        return None

    def advance(self, count: int, facts: Sequence[Mapping[str, Any]] = ()) -> None:
        """So many more units are done, with what is known of each: scores of an image, a cell and its seed, ..."""
        return None

    def watch(self, total: int, seen: Callable[[], int]) -> None:
        """The present units consist of `total` smaller ones in all; `seen` says how many are done."""
        return None


class Silent(Progress):
    """A `Progress` that says nothing."""
