"""What a method is: a way to make a small set out of a large one. Runs know methods by this alone.

Every method has the six members of `Method`; what only some do are protocols of their own, found by `isinstance`. A
choice among real images names them in `Sample.source`; one from another run names that in settings of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from concord.events import Progress
from concord.plan import Sample

if TYPE_CHECKING:
    from concord.concepts.plan import ConceptPlan
    from concord.data.tensor_set import TensorForm
    from concord.models.cache import ModelCache
    from concord.recipe import Recipe


@dataclass(frozen=True)
class GeneratedImage:
    """A finished image (RGB) and what was measured on it.

    image: what is stored as a picture. scores: kept in its row; one called ``uninformed_steps`` is summed over the set
    into results.json. tensor: float32 (C, H, W), for methods whose pixels are parameters: stored beside the picture
    without rounding, as ``tensors/<class>/<index>.npy``; in [-1, 1] or beyond, or in the space of a method that is
    `InTensors`. soft: (K,) its own probabilities of the classes, beside a tensor.
    """

    image: Image.Image
    scores: Mapping[str, float | int] = field(default_factory=dict)
    tensor: np.ndarray | None = None
    soft: np.ndarray | None = None


@dataclass(frozen=True)
class Cost:
    """What a method knows beforehand, for ``--dry-run``; None is unknown.

    bytes_per_image: of one stored file. seconds_per_image: of one worker, all variants together: the median of what
    was timed. seconds_range: its lower and upper quartile. memory: of one worker.
    """

    bytes_per_image: float | None = None
    seconds_per_image: float | None = None
    memory: float | None = None
    seconds_range: tuple[float, float] | None = None


class Method(Protocol):
    """A way to make a small set. It is built as ``build(recipe, data)``, see `concord.registry.MethodSpec`.

    Building one must be cheap (``--dry-run`` and every worker do it): models are loaded and concepts selected at
    first need. A worker calls `make` only, with samples that the parent planned.
    """

    @property
    def batch_size(self) -> int:
        """Samples a batch; 1 where the supply of samples is limited."""

    @property
    def variants(self) -> tuple[str, ...]:
        """Directories to fill; the first is ``images``, others are counterparts such as ``uninformed``."""

    def count(self, class_index: int, ipc: int) -> int:
        """How many samples this class has at this IPC, at least 1; a ConcordError where there are too few."""

    def sample(self, class_index: int, index: int) -> Sample:
        """Return sample (class_index, index); pure, and the same whatever the IPC, but for a method that `Fits`."""

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        """Make a batch, one `GeneratedImage` a sample, in order; a function of batch and variant alone."""

    def cost(self) -> Cost:
        """Return what an image will cost, as far as it is known without loading a model."""


@runtime_checkable
class Resumes(Protocol):
    """A method that leaves concepts.json, and takes it up again."""

    def resume(self, concepts: Mapping[str, Any]) -> None:
        """Take the concepts.json of an earlier call with the same identity, instead of working it out again."""

    def record(self) -> dict[str, Any] | None:
        """Return what concepts.json shall hold, or None; asked for once, before the first image is made."""


@runtime_checkable
class Fits(Protocol):
    """A method that optimises all images together; its specification says ``ipc="joint"``."""

    def fit(self, folder: Path, progress: Progress) -> None:
        """Fit, or go on from what an earlier call left in `folder`; afterwards `make` hands out the images.

        Called once, in the parent, before the first batch and only where images are missing. The folder is the
        method's own and is removed when the set is finished.
        """


@runtime_checkable
class InTensors(Protocol):
    """A method whose set is its tensors, the pictures being 8-bit previews of them.

    Each of its images has a `tensor`, all squares of one size. The run leaves them as one file, tensors.safetensors,
    which `concord evaluate` and others take instead of the pictures.
    """

    def form(self) -> "TensorForm":
        """What space the tensors are in, and how students take them; asked for before the first image is made."""


@runtime_checkable
class Pools(Protocol):
    """A method that chooses its images from a larger set, which is made first, below its own directory."""

    def pool(self, ipc: int) -> "Recipe":
        """The recipe of that set, for a set of this IPC."""

    def choose_from(self, pool: Path) -> None:
        """Choose from the finished set in this directory; asked for before any sample is planned."""


@runtime_checkable
class Tells(Protocol):
    """A method that knows something of the set that results.json shall hold."""

    def facts(self) -> dict[str, Any]:
        """Return further keys of results.json, when every image is stored."""


@runtime_checkable
class Informed(Protocol):
    """A method that samples by a recipe's models and concepts, which measures share."""

    models: "ModelCache"
    concepts: "ConceptPlan"

    def operations(self, sample: Sample) -> int | None:
        """Floating-point operations of making an image of the first variant, or None where they cannot be counted."""
