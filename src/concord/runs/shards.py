"""Shards: a set made by many processes that know nothing of each other, each with a manifest and a lock of its own.

Shard i of n makes every n-th batch of the plan from the i-th. Images go where they belong, rows into
``shards/i-of-n/VARIANT.jsonl`` of the run's directory. A shard holds the directory together with the others, and
against whoever wants it alone; whoever holds it alone next takes all rows over.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from concord.errors import ConcordError
from concord.runs.directory import Run
from concord.runs.store import rows_there
from concord.storage.atomic import disk_errors, lock, read_json, write_json

FOLDER, FACTS, BEGINNING = "shards", "shard.json", "begin.lock"
_NAME = re.compile(r"(0|[1-9]\d*)-of-([1-9]\d*)")


@dataclass(frozen=True, order=True)
class Shard:
    """The `index`-th of `of` shards, counted from 0."""

    index: int
    of: int

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def folder(self, out: Path) -> Path:
        """Where it keeps its manifests."""
        return out / FOLDER / f"{self.index}-of-{self.of}"

    def manifest(self, out: Path, variant: str) -> Path:
        """Its rows of a variant."""
        return self.folder(out) / f"{variant}.jsonl"


def read_shard(text: str, out: Path, environment: Mapping[str, str]) -> Shard:
    """Return the shard that ``--shard`` names: ``3/64``, or ``slurm`` for that of an array's task.

    A task of an array of which only some run again belongs to as many shards as the directory was begun with.
    Raises ConcordError: it names none.
    """
    if text == "slurm":
        names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN")]
        if not all(environment.get(name, "").isdigit() for name in names[:2]):
            raise ConcordError(f"--shard slurm needs {names[0]} and {names[1]}, as sbatch --array=0-63 sets them")
        index, count, first = (int(environment.get(name) or 0) for name in names)
        begun = of(out)
        if not begun and (first != 0 or index >= count):
            raise ConcordError(
                f"--shard slurm counts from 0 and without gaps, as in --array=0-{count - 1}; of an array that begins at"
                f" {first} give the shard itself, as in --shard $(({names[0]} - {first}))/{count}"
            )
        text = f"{index}/{begun or count}"
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise ConcordError(f"--shard {text}: expected I/N with I from 0 to N-1, as in 3/64, or slurm")
    return Shard(int(found[1]), int(found[2]))


def shards(out: Path) -> list[Shard]:
    """Those that began in a run's directory and were not taken over yet."""
    folders = (out / FOLDER).iterdir() if (out / FOLDER).is_dir() else ()
    return sorted(Shard(int(m[1]), int(m[2])) for path in folders if (m := _NAME.fullmatch(path.name)))


def of(out: Path) -> int:
    """How many shards a directory is made in; 0 where it is in none."""
    return max((shard.of for shard in shards(out)), default=0)


def manifests(out: Path, variant: str, but: Shard | None = None) -> list[Path]:
    """The manifests of a variant that shards left, but for one's."""
    paths = (shard.manifest(out, variant) for shard in shards(out) if shard != but)
    return [path for path in paths if path.is_file()]


@contextmanager
def held(out: Path, shard: Shard) -> Iterator[ExitStack]:
    """Hold a directory as one of its shards; what is yielded is closed when it is begun, for the others to begin.

    The first to come works out what all of them need, and they wait for it.
    Raises ConcordError: the directory is held alone, the shard runs already, or there are other shards.
    """
    with lock(out, shared=True), lock(shard.folder(out), wait=1.0):  # `status` may look
        others = {other.of for other in shards(out)} - {shard.of}
        if others:
            with disk_errors(out):
                _remove_empty(shard.folder(out))
            raise ConcordError(
                f"{out} is made in shards of {min(others)}, and --shard is {shard}; give them to their end, or `concord"
                " distill` without --shard: it takes over what they made, and makes the rest"
            )
        with ExitStack() as beginning:
            beginning.enter_context(lock(out / FOLDER, BEGINNING, wait=math.inf))
            yield beginning


def _remove_empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == ".concord.lock":
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def note_plan(out: Path, shard: Shard, images: int, ipc: int) -> None:
    """Leave how many images a shard has when it is done, and of which plan."""
    write_json(shard.folder(out) / FACTS, {"images": images, "ipc": ipc})


@dataclass(frozen=True)
class Part:
    """How far a shard is. images: of all variants, what it has when it is done; None where it never began."""

    shard: Shard
    made: int
    images: int | None
    running: bool

    @property
    def done(self) -> bool:
        return self.images is not None and self.made >= self.images and not self.running


@dataclass(frozen=True)
class Status:
    """How far a run is. images: of all variants, there now. parts: of the shards it is made in, if it is in any."""

    out: Path
    finished: bool
    images: int
    parts: Sequence[Part]

    @property
    def outstanding(self) -> list[int]:
        """Shards that are neither done nor running."""
        return [part.shard.index for part in self.parts if not (part.done or part.running)]


def status(out: Path, count: int = 0) -> Status:
    """Look how far a run is, by manifests and the sizes of files. count: of shards, where none began yet.

    Raises:
        ConcordError: nothing was begun there.
    """
    run = Run(out)
    if not run.recipe_text and not count:
        raise ConcordError(f"{out} holds no run: expected recipe.yaml there, as `concord distill` leaves it")
    roots = [root for root in (out / "images", out / "uninformed") if root.is_dir()]
    images = sum(rows_there(root, root / "metadata.jsonl") for root in roots)
    begun, ipc = {shard.index: shard for shard in shards(out)}, run.recipe.get("ipc")
    parts = []
    for index in range(of(out) or (0 if run.finished else count)):
        shard = Shard(index, of(out) or count)
        made, facts = 0, {}
        if index in begun:
            made = sum(rows_there(root, shard.manifest(out, root.name)) for root in roots)
            facts = read_json(shard.folder(out) / FACTS)
        planned = facts.get("images") if facts.get("ipc") == ipc else None
        running = index in begun and _is_held(shard.folder(out))
        parts.append(Part(shard, made, planned if isinstance(planned, int) else None, running))
    return Status(out, run.finished and not parts, images + sum(part.made for part in parts), parts)


def _is_held(folder: Path) -> bool:
    try:
        with lock(folder, shared=True):
            return False
    except ConcordError:
        return True


def array(indices: Sequence[int]) -> str:
    """Numbers as schedulers take them for an array: ``3,7-9``."""
    spans: list[list[int]] = []
    for index in sorted(indices):
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
