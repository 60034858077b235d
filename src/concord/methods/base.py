"""What a method is: a way to make a small set out of a large one. Runs know methods by this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from concord.plan import Sample


@dataclass(frozen=True)
class GeneratedImage:
    """A finished image (RGB) and what was measured on it.

    A score called ``uninformed_steps`` is summed over the set into results.json.
    """

    image: Image.Image
    scores: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a method knows beforehand, for ``--dry-run``; None is unknown.

    `bytes_per_image` of one stored file; `seconds_per_image` of one worker, all variants together;
    `memory` in bytes of one worker.
    """

    bytes_per_image: float | None = None
    seconds_per_image: float | None = None
    memory: float | None = None


class Method(Protocol):
    """A way to make a small set. It is built as ``Class(recipe, data)``, see `concord.methods.build`.

    Building one must be cheap (``--dry-run`` and every worker do it): models are loaded and concepts selected at
    first need. A worker calls `make` only, with samples that the parent planned.
    """

    @property
    def batch_size(self) -> int:
        """Samples a batch; 1 where the supply of samples is limited."""
        ...

    @property
    def variants(self) -> tuple[str, ...]:
        """Directories to fill; the first is ``images``, others are counterparts such as ``uninformed``."""
        ...

    def count(self, class_index: int, ipc: int) -> int:
        """Return how many samples this class has at this IPC (at least 1): `ipc` where samples can be generated.

        Raises:
            ConcordError: there are fewer than asked for.
        """
        ...

    def sample(self, class_index: int, index: int) -> Sample:
        """Return sample (class_index, index); pure, and the same whatever the IPC."""
        ...

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        """Make a batch, one `GeneratedImage` a sample, in order; a function of batch and variant alone."""
        ...

    def recall(self, concepts: Mapping[str, Any]) -> None:
        """Take the concepts.json of an earlier call with the same identity, instead of working it out again."""
        ...

    def concepts(self) -> dict[str, Any] | None:
        """Return what concepts.json shall hold, or None; asked for once, before the first image is made."""
        ...

    def results(self, out: Path) -> dict[str, Any]:
        """Return further keys of results.json, when every image and manifest lies in `out`."""
        ...

    def finish(self, out: Path) -> None:
        """Leave further files in `out` (samples.png); called last, after results.json is written."""
        ...

    def cost(self) -> Cost:
        """Return what an image will cost, as far as it is known without loading a model."""
        ...
