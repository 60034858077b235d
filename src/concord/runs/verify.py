"""Whether a set is whole: by the sizes and digests that its rows and its `checksums.json` have."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from concord.errors import ConcordError
from concord.runs.directory import FILES, Run
from concord.runs.draws import draws_in
from concord.runs.manifest import Rows
from concord.runs.store import MANIFEST, Row, read_manifest
from concord.storage.checksums import CHECKSUMS, changed, is_inside, read_checksums, sum_of_file, write_checksums
from concord.storage.images import SUFFIXES, read_image
from concord.storage.threads import in_threads
from concord.text import counted


@dataclass(frozen=True)
class Verified:
    """What was found, each a line: what was checked, what is wrong, and what could not be checked."""

    checked: tuple[tuple[str, str], ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def seal(out: Path, of: str) -> None:
    """Leave `checksums.json` in the directory of a run that is finished; of: a digest of what it was made from."""
    names = (*FILES, *(f"{root.name}/{MANIFEST}" for root in _roots(out)))
    write_checksums(out, [name for name in names if (out / name).is_file()], of=of)


def seal_export(root: Path, **more: str) -> None:
    """Leave `checksums.json` in an export, over all that no row of its manifest names; `more` stands beside them."""
    rows = Rows(root / MANIFEST) if (root / MANIFEST).is_file() else ()
    named = {row["file_name"] for row in rows}
    files = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    write_checksums(root, [name for name in files if name not in named], **more)


def damage(directory: Path) -> Iterator[str]:
    """Yield what is not as `checksums.json` and the rows of the manifests say; nothing where all is."""
    yield from (
        f"{name} is missing or changed" for name in changed(directory, read_checksums(directory).get("files", {}))
    )
    for root in _roots(directory):
        try:
            rows = read_manifest(root)
        except ConcordError as error:
            yield str(error)
            continue
        of_root = partial(_fault, directory, root)
        yield from filter(None, in_threads(of_root, rows))


def verify(directory: Path) -> Verified:
    """Look whether the set in a directory is whole: a run's, all draws', an export's, or a run's ``images``.

    Raises:
        ConcordError: it holds nothing that can be verified.
    """
    if not (draws := draws_in(directory)):
        return _verify(directory)
    found = {draw.name: _verify(draw) for draw in draws}
    return Verified(
        tuple((f"{name}/{what}", said) for name, one in found.items() for what, said in one.checked),
        tuple(f"{name}/{fault}" for name, one in found.items() for fault in one.faults),
        tuple(f"{name}: {note}" for name, one in found.items() for note in one.notes),
    )


def _verify(directory: Path) -> Verified:
    sums, roots, notes = read_checksums(directory), _roots(directory), []
    if not sums and not roots:
        left = f"{CHECKSUMS} or {MANIFEST}, as `concord distill` and `concord export` leave them"
        raise ConcordError(f"{directory} holds no set that could be verified: expected {left}")
    faults, checked = list(damage(directory)), []
    is_run = any((directory / name).is_file() for name in ("recipe.yaml", "environment.json"))
    if is_run and not Run(directory).finished:
        faults.insert(0, "it is not finished: the same `concord distill` command goes on")
    for root in roots:
        name = root.relative_to(directory).as_posix()
        rows = _rows(root)
        proven = sum("sha256" in row for row in rows)
        checked.append(("images" if name == "." else name, f"{counted(len(rows), 'image')}, {proven} by SHA-256"))
        if proven < len(rows):
            notes.append(f"{counted(len(rows) - proven, 'row')} of {name} without a digest: their images can be read")
        named = {row["file_name"] for row in rows}
        strays = [file for file in _images(root) if file not in named]
        faults += [f"{root.relative_to(directory) / file} has no row" for file in strays]
    if sums:
        checked.append(("files", f"{counted(len(sums['files']), 'file')} by SHA-256"))
    else:
        notes.append(f"there is no {CHECKSUMS}: whether rows or other files are missing cannot be said")
        faults += _unreadable(directory) if is_run else []
    return Verified(tuple(checked), tuple(faults), tuple(notes))


def _roots(directory: Path) -> list[Path]:
    """Where manifests lie: in the directory, or in the folders of a run's variants."""
    if not directory.is_dir():
        return []
    return [root for root in (directory, *sorted(directory.iterdir())) if (root / MANIFEST).is_file()]


def _rows(root: Path) -> list[Row]:
    """The rows of a manifest, none where it is missing or damaged."""
    try:
        return read_manifest(root)
    except (ConcordError, FileNotFoundError):
        return []


def _fault(directory: Path, root: Path, row: Row) -> str | None:
    path = root / row["file_name"]
    name = path.relative_to(directory)
    if not is_inside(row["file_name"]):
        return f"{name} lies elsewhere"
    if (found := sum_of_file(path)) is None:
        return f"{name} is missing"
    if "sha256" not in row:
        try:
            read_image(path)
        except ConcordError as error:
            return str(error)
        return None
    if found["bytes"] != row.get("bytes"):
        return f"{name} has {counted(found['bytes'], 'byte')}, and {row.get('bytes')} by its row"
    return None if found["sha256"] == row["sha256"] else f"{name} is not the image of its row"


def _images(root: Path) -> Iterator[str]:
    for folder, _, files in os.walk(root):
        for file in sorted(files):
            if Path(file).suffix.lower() in SUFFIXES:
                yield (Path(folder) / file).relative_to(root).as_posix()


def _unreadable(directory: Path) -> Iterator[str]:
    """What a run of an earlier version has that cannot be read."""
    run = Run(directory)
    for name in ("recipe", "results", "environment", "concepts", "details", "near_copies"):
        try:
            getattr(run, name)
        except ConcordError as error:
            yield str(error)
    if run.finished and run.results.get("images") != len(_rows(directory / "images")):
        yield "images has not as many rows as results.json says"
