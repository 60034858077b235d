"""Which of a folder's Parquet files are one set: a split, a configuration of it, and all of its shards once."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from concord.data.parquet_columns import Numbers, reading
from concord.data.splits import SPLITS, TRAIN, Part, split_of, split_word, wanted
from concord.errors import ConcordError
from concord.text import listed

_SHARD = re.compile(r"(?P<stem>.+)-(?P<place>\d{5})-of-(?P<total>\d{5})(-[0-9a-f]{16})?\.parquet", re.IGNORECASE)


def ways(path: Path, files: Sequence[str], part: Part) -> list[tuple[list[str], str]]:
    """Return the files to take, with what to say about it; further ones for where those are not labelled."""
    if path.is_file():
        return [(list(files), "")]
    of: dict[str | None, list[str]] = {}
    for file in files:
        of.setdefault(split_of(file), []).append(file)
    if len(of) == 1 and (part == "train" or not of.keys() & {*TRAIN}):
        only = next(iter(of))
        return [(list(files), "" if only in (None, *wanted(part)) else f"{path} has the split {only} alone")]
    shown = ", ".join(sorted(split for split in of if split))
    found = [(of[split], f"{path} has splits ({shown}): {split} is the data") for split in wanted(part) if split in of]
    if not found and None in of:
        found = [(of[None], f"{path} has splits ({shown}): the files of none are the data")]
    if not found:
        wish = "training split" if part == "train" else "split held out from training"
        raise ConcordError(f"data: {path} has no {wish}, only {shown}; name another folder, or one file")
    return found


def one_set(path: Path, files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return those of a split's files that are one set, with what to say about it.

    Raises:
        ConcordError: there are several configurations and none is the default, or shards are missing, stale or doubled.
    """
    of, notes = defaultdict(list), list[str]()
    for file in files:
        of[_configuration(file)].append(file)
    chosen = "default" if "default" in of else "" if "" in of else next(iter(of))
    if len(of) > 1:
        shown = ", ".join(sorted(name or "none" for name in of))
        if chosen not in ("default", ""):
            way = path / min(of) if (path / min(of)).is_dir() else path / of[min(of)][0]
            raise ConcordError(f"data: {path} has several configurations ({shown}); name one, as in {way}")
        notes.append(f"{path} has configurations ({shown}): {chosen or 'that without a name'} is the data")
    _check_shards(path, of[chosen])
    return of[chosen], notes


def _configuration(file: str) -> str:
    """The configuration of a file: the folders above its split, or what its shard is called beside the split's name."""
    *folders, name = file.split("/")
    if split_of(file) is None:
        return ""  # parts of one set may lie in any folders
    shard = _SHARD.fullmatch(name)
    if split_word(name.partition(".")[0]) is None:
        return "/".join(_named(folders[: max(i for i, folder in enumerate(folders) if split_word(folder))]))
    words = re.split(r"[\W_]+", shard["stem"]) if shard else []
    return "/".join([*_named(folders), *filter(None, ["-".join(w for w in words if w.lower() not in SPLITS)])])


def _named(folders: Sequence[str]) -> list[str]:
    return [folder for folder in folders if folder != "data" and not split_word(folder)]


def _check_shards(path: Path, files: Sequence[str]) -> None:
    """Refuse shards that are not each there once: ``-00000-of-00003`` says how many there are."""
    totals: defaultdict[str, defaultdict[int, defaultdict[int, list[str]]]]
    totals = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for file in files:
        if shard := _SHARD.fullmatch(file):
            totals[shard["stem"]][int(shard["total"])][int(shard["place"])].append(file)
    for stem, of in totals.items():
        firsts = [next(iter(places.values()))[0] for places in of.values()]
        firsts += [file for file in files if file.lower() == f"{stem.lower()}.parquet"]
        if len(firsts) > 1:
            forms = listed(firsts, 3)
            raise ConcordError(f"data: {path} has one split in several forms ({forms}); move away what is out of date")
        (total, places), *_ = of.items()
        if doubled := next((found for found in places.values() if len(found) > 1), None):
            raise ConcordError(f"data: {path} has a shard twice ({listed(doubled, 3)}); move one away")
        if missing := sorted({*range(total)} - {*places}):
            raise ConcordError(
                f"data: {path} has {len(places)} of the {total} shards of {stem}; fetch number"
                f" {listed(map(str, missing))}, or take -of-{total:05d} out of the names to use these alone"
            )


def check_doubled(root: Path, numbers: Numbers, image: str, read: Callable[[str, int], bytes | None]) -> None:
    """Refuse files that hold the same rows: a copy under another name.

    numbers: of each file, the labels. image: the column of the images. read: (file, row) -> an image's bytes; called
    where labels are the same and images take the same bytes only.
    """
    seen: defaultdict[tuple[bytes, tuple[int, ...]], list[str]] = defaultdict(list)
    for file, labels in numbers.items() if len(numbers) > 1 else ():
        with reading(root / file):
            from pyarrow.parquet import read_metadata

            about = read_metadata(root / file)
        groups = [about.row_group(i) for i in range(about.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        taken = tuple(c.total_uncompressed_size for c in chunks if c.path_in_schema.partition(".")[0] == image)
        alike = seen[labels.tobytes(), taken]
        for other in alike if len(labels) else ():
            if all(read(file, row) == read(other, row) for row in (0, len(labels) - 1)):
                raise ConcordError(f"data: {root / file} holds the rows of {root / other} again; move one away")
        alike.append(file)
