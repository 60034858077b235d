"""The store: images appear whole or not at all, and a run that was killed anywhere loses and doubles nothing.

An image is written beside its place, synced, renamed into it, and the directory synced; then its row is appended to
``metadata.jsonl`` and synced. So a row always has its file. After a kill there may be a partial file (its name starts
with a dot), a file without a row (it is made again and replaced by equal bytes) or a torn last row (it is dropped, and
its image made again). When all is made, the manifest is rewritten in the order of label and index, so that its bytes do
not tell in which order the images came.

A directory may have been damaged since, or come from elsewhere: a row counts only where it is one, names a file inside,
and that file is what the row says, by size and SHA-256. What does not count is made again.
"""

import contextlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from concord.data.classes import ClassEntry
from concord.errors import ConcordError
from concord.plan import Sample
from concord.recipe import Format
from concord.storage import atomic
from concord.storage.atomic import disk_errors, json_line, make_directories, write_atomically
from concord.storage.checksums import is_inside, sum_of, sum_of_file
from concord.storage.images import read_image
from concord.storage.threads import in_threads

MANIFEST = "metadata.jsonl"


SUFFIX = {"png": "png", "webp": "webp", "jpeg": "jpg"}


Row = dict[str, Any]


_FOUND = frozenset({"scores", "bytes", "sha256", "tensor_sha256", "soft"})
"""Keys of a row that are known when its image is made; all others are planned."""


_Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Crop(BaseModel):
    source: str
    box: Annotated[list[int], Field(min_length=4, max_length=4)]


class _Row(BaseModel):
    """What a row must be; those of earlier versions lack keys, and of later ones may have more."""

    model_config = ConfigDict(strict=True, extra="allow")

    file_name: Annotated[str, Field(min_length=1)]
    label: _Count
    index: _Count
    class_name: str = ""
    seed: int | None = None
    positives: list[str] = []
    negatives: list[str] = []
    prompt: str = ""
    source: str = ""
    checkpoint: str = ""
    crops: list[_Crop] = []
    scores: dict[str, FiniteFloat] = {}
    bytes: _Count = 0
    sha256: str = ""
    tensor_sha256: str = ""
    soft: list[FiniteFloat] = []


class Store:
    """The images of one variant and their manifest, below `root`; open one under a `lock` only.

    own: the manifest of a shard, which writes beside others; None: all of the variant is this store's.
    parts: manifests of shards. Rows of theirs are taken over; or, by a shard, taken for made elsewhere.
    """

    def __init__(self, root: Path, form: Format, own: Path | None = None, parts: Sequence[Path] = ()) -> None:
        self.root, self._form = root, form
        self._manifest = own or root / MANIFEST
        self._folders: set[Path] = set()
        with disk_errors(root):
            make_directories(root)
            if own is None:
                for part in root.glob("**/.*.part"):  # of a kill
                    part.unlink()
            self.rows = self._recover(parts if own is None else ())
            self._elsewhere = set[tuple[int, int]]() if own is None else self._made([root / MANIFEST, *parts])

    def lacks(self, place: tuple[int, int]) -> bool:
        """Say whether nobody made an image of this place."""
        return place not in self.rows and place not in self._elsewhere

    def file_name(self, sample: Sample, entry: ClassEntry) -> str:
        """Return where a sample's image lies, relative to the root."""
        return f"{entry.folder}/{sample.index:05d}.{SUFFIX[self._form.kind]}"

    def has(self, sample: Sample, entry: ClassEntry) -> bool:
        """Say whether the sample is finished, and is what the plan says today."""
        if (row := self.rows.get(sample.place)) is None:
            return False
        return {key: value for key, value in row.items() if key not in _FOUND} == self._planned(sample, entry)

    def add(
        self,
        sample: Sample,
        entry: ClassEntry,
        data: bytes,
        scores: Mapping[str, float | int],
        tensor: np.ndarray | None = None,
        soft: np.ndarray | None = None,
    ) -> None:
        """Store one finished image, and its pixels without rounding where they are given; then its row."""
        self.drop([sample.place] if sample.place in self.rows else [])
        row = {**self._planned(sample, entry), "scores": dict(scores), **sum_of(data)}
        if tensor is not None:
            array = _npy(tensor)
            row["tensor_sha256"] = sum_of(array)["sha256"]
            self._write(self._tensor_file(row["file_name"]), array)
        if soft is not None:
            row["soft"] = [float(share) for share in soft]
        self._write(self.root / row["file_name"], data)
        with disk_errors(self._manifest):
            self._append(json_line(row))
        self.rows[sample.place] = row

    def _write(self, path: Path, data: bytes) -> None:
        """Write into a class's folder, which must not lead elsewhere."""
        if (folder := path.parent) not in self._folders:
            with disk_errors(path):
                make_directories(folder)
            if folder.is_symlink():
                raise ConcordError(f"{folder} is a link; put a folder in its place, or give another --out")
            self._folders.add(folder)
        write_atomically(path, data)

    def tensor(self, row: Row) -> np.ndarray:
        """The pixels without rounding that were stored beside an image, float32 (C, H, W)."""
        array: np.ndarray = np.load(self._tensor_file(row["file_name"]), allow_pickle=False)
        return array

    def _tensor_file(self, file_name: str) -> Path:
        """Beside the root, for readers of image folders take every folder in it for a class."""
        folder = "tensors" if self.root.name == "images" else f"tensors-{self.root.name}"
        return (self.root.parent / folder / file_name).with_suffix(".npy")

    def trim(self, counts: Sequence[int]) -> None:
        """Take out images beyond the plan's counts: a supply shrinks when an unreadable image is left out of it."""
        outside = [row for (label, index), row in self.rows.items() if label >= len(counts) or index >= counts[label]]
        if not outside:
            return
        with disk_errors(self.root):
            for row in outside:
                del self.rows[row["label"], row["index"]]
            kept = {row["file_name"] for row in self.rows.values()}
            for row in outside:
                # The image goes before its row: after a kill in between, the row is dropped for want of it.
                if row["file_name"] not in kept:
                    (self.root / row["file_name"]).unlink(missing_ok=True)
                    self._tensor_file(row["file_name"]).unlink(missing_ok=True)
        self._rewrite()

    def drop(self, places: Sequence[tuple[int, int]]) -> None:
        """Take out the rows of images that are planned otherwise now; a row goes before its image is replaced."""
        for place in places:
            del self.rows[place]
        if places:
            self._rewrite()

    def finish(self) -> None:
        """Put the manifest into the order of label and index."""
        if list(self.rows) != sorted(self.rows):
            self.rows = dict(sorted(self.rows.items()))
            self._rewrite()

    def _planned(self, sample: Sample, entry: ClassEntry) -> Row:
        row: Row = {
            "file_name": self.file_name(sample, entry),
            "label": sample.class_index,
            "class_name": entry.class_name,
            "index": sample.index,
            "seed": sample.seed,
            "positives": list(sample.positives),
            "negatives": list(sample.negatives),
            "prompt": sample.prompt,
            "source": sample.source,
            "checkpoint": sample.checkpoint,
        }
        if sample.crops:
            row["crops"] = [{"source": crop.source, "box": list(crop.box)} for crop in sample.crops]
        further = {"start": sample.start, "negative_prompt": sample.negative_prompt}
        row |= {key: text for key, text in further.items() if text}
        return row

    def _append(self, line: bytes) -> None:
        with open(self._manifest, "ab") as file:
            end = file.tell()
            try:
                file.write(line)
                file.flush()
                atomic.failpoint("row written")
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(self._manifest, end)  # a full disk takes half a row
                raise
        atomic.failpoint("row synced")

    def _rewrite(self) -> None:
        write_atomically(self._manifest, b"".join(json_line(row) for row in self.rows.values()))

    def _recover(self, parts: Sequence[Path]) -> dict[tuple[int, int], Row]:
        """Read what an earlier run or shards left, and put the manifest in order if it was killed."""
        path = self._manifest
        data = path.read_bytes() if path.is_file() else None
        read = [*_rows_of(data or b""), *(row for part in parts for row in _rows_of(part.read_bytes()))]
        rows = {(row["label"], row["index"]): row for row in in_threads(self._whole, read) if row is not None}
        if (lines := b"".join(map(json_line, rows.values()))) != data or path.is_symlink():
            write_atomically(path, lines)
        return rows

    def _made(self, manifests: Sequence[Path]) -> set[tuple[int, int]]:
        """The places of rows of others whose images are there, by their sizes: their digests are looked at once all are
        taken over."""
        there = [path.read_bytes() for path in manifests if path.is_file()]
        rows = [row for data in there for row in _rows_of(data) if is_inside(row["file_name"])]
        sizes = in_threads(lambda row: _size(self.root / row["file_name"]), rows)
        return {(row["label"], row["index"]) for row, size in zip(rows, sizes, strict=True) if size == row.get("bytes")}

    def _whole(self, row: Row) -> Row | None:
        """The row where its image is what it says, else None; of an earlier version, with what its image is now."""
        path, tensor = self.root / row["file_name"], self._tensor_file(row["file_name"])
        if not is_inside(row["file_name"]) or path.parent.is_symlink() or (found := sum_of_file(path)) is None:
            return None
        if "tensor_sha256" in row and (sum_of_file(tensor) or {}).get("sha256") != row["tensor_sha256"]:
            return None
        if "sha256" in row:
            return row if found == {key: row.get(key) for key in found} else None
        try:
            read_image(path)
        except ConcordError:
            return None
        return {**row, **found}


def read_manifest(root: Path) -> list[Row]:
    """Return the rows of a variant's directory (``DIR/images``) in the order of label and index.

    A last line without an end was torn by a kill, and is passed over. Raises ConcordError: any other line is no row.
    """
    return read_rows(root / MANIFEST)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a manifest of any name; see `read_manifest`."""
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        if (row := valid_row(line)) is None:
            raise no_row(path, number)
        rows.append(row)
    return sorted(rows, key=lambda row: (row["label"], row["index"]))


def no_row(path: Path, number: int) -> ConcordError:
    """What to raise where a line of a manifest, counted from 1, is none of a row."""
    again = "give `concord distill` again, and it is made anew"
    return ConcordError(f"{path} is damaged: line {number} is no row of an image; {again}")


def rows_there(root: Path, manifest: Path) -> int:
    """Count the rows of a manifest whose image below `root` is there, by its size."""
    rows = _rows_of(manifest.read_bytes()) if manifest.is_file() else []
    return sum(is_inside(row["file_name"]) and _size(root / row["file_name"]) == row.get("bytes") for row in rows)


def _rows_of(data: bytes) -> list[Row]:
    """The rows of a manifest that may be damaged; a last line without an end was torn by a kill."""
    return [row for line in data.split(b"\n")[:-1] if (row := valid_row(line)) is not None]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def valid_row(line: bytes) -> Row | None:
    """A line of a manifest as a row, None where it is none."""
    try:
        row: Row = json.loads(line)
        _Row.model_validate(row)
        json_line(row)  # no number that JSON lacks, no half of a surrogate pair
    except (ValueError, RecursionError):
        return None
    return row


def _npy(tensor: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(tensor, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()
