"""The plan: every image is decided before any is made.

Sample (class, index) is the same whatever the number of images per class (IPC), so IPC 10 is a prefix of IPC 50.
Batches are cut from the *endless* plan: batch k of a checkpoint holds its samples [k b, (k + 1) b). One that the IPC
cuts is made whole and only what is wanted is kept; hence a set grown from IPC 4 to 10 equals the set made at IPC 10 at
once, byte for byte, although a network's output for one image may depend in its last bits on the batch around it.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Crop:
    """A square part of a real image: its reference, and the part's left and upper edge and side in pixels."""

    source: str
    left: int
    top: int
    side: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge."""
        return self.left, self.top, self.left + self.side, self.top + self.side


@dataclass(frozen=True)
class Sample:
    """One image of the plan: all that decides it beside the recipe; `index` counts within the class from 0.

    `source` names the real image that is copied or conditions the sample; `checkpoint` the weights that make it;
    `crops` the parts of real images that it is put together from; `start` what its sampling begins from, where that is
    neither noise nor `source`; `negative_prompt` what guidance leads away from.
    """

    class_index: int
    index: int
    seed: int
    positives: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    prompt: str = ""
    source: str = ""
    checkpoint: str = ""
    crops: tuple[Crop, ...] = ()
    start: str = ""
    negative_prompt: str = ""

    @property
    def place(self) -> tuple[int, int]:
        """The key of the sample in a store: (class_index, index)."""
        return self.class_index, self.index


@dataclass(frozen=True)
class Batch:
    """Samples that are made together, whole: the unit on which bytes depend."""

    checkpoint: str
    number: int
    samples: tuple[Sample, ...]


def sample_seed(seed: int, class_key: str, index: int | str) -> int:
    """Return the seed of sample (class, index): 48 bits of SHA-256, so that any JSON reader keeps it exactly.

    A real image of a class has one, too: `index` is its reference then.
    It depends on the class by its key, not its position, so a subset of the classes keeps the seeds of the whole.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}\0{class_key}\0{index}".encode()).digest()[:6], "big")


def _any(class_index: int, index: int) -> bool:
    return True


def batches(
    sample: Callable[[int, int], Sample],
    counts: Sequence[int],
    batch_size: int,
    lacking: Callable[[int, int], bool] = _any,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield the batches that hold at least one wanted sample, by checkpoint, then index, then class.

    Each is planned when it is asked for, and one of which nothing is lacking is not planned at all.

    Args:
        sample: gives the sample of (class_index, index). A batch that the counts cut asks it for samples beyond them,
            so a method with a limited supply has batches of one.
        counts: wanted samples of each class, each at least 1.
        batch_size: samples a batch.
        lacking: whether the sample of (class_index, index), within the counts, is still to be made.
        shard: (i, n) yields every n-th of the batches that hold a wanted sample, from the i-th, counted from 0.
    """
    checkpoints = [sample(class_index, 0).checkpoint for class_index in range(len(counts))]
    for checkpoint, number, places in cuts(checkpoints, counts, batch_size, shard):
        if any(index < counts[class_index] and lacking(class_index, index) for class_index, index in places):
            yield Batch(checkpoint, number, tuple(sample(*place) for place in places))


def cuts(
    checkpoints: Sequence[str], counts: Sequence[int], batch_size: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[tuple[str, int, list[tuple[int, int]]]]:
    """Yield the checkpoint, number and places (class_index, index) of each batch of `batches`, without planning it.

    checkpoints: of each class.
    """
    nth_batch, (of_shard, shards) = 0, shard
    by_checkpoint: dict[str, list[int]] = {}
    for class_index, checkpoint in enumerate(checkpoints):
        by_checkpoint.setdefault(checkpoint, []).append(class_index)
    for checkpoint, classes in sorted(by_checkpoint.items()):
        end = len(classes) * max(counts[c] for c in classes)
        for start in range(0, end, batch_size):
            among = (divmod(position, len(classes)) for position in range(start, start + batch_size))
            places = [(classes[nth], index) for index, nth in among]
            if any(index < counts[class_index] for class_index, index in places):
                if nth_batch % shards == of_shard:
                    yield checkpoint, start // batch_size, places
                nth_batch += 1
