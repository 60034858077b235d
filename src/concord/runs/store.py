"""The store: images appear whole or not at all, and a run that was killed anywhere loses and doubles nothing.

An image is written beside its place, synced, renamed into it, and the directory synced; then its row is appended to
``metadata.jsonl`` and synced. So a row always has its file. After a kill there may be a partial file (its name starts
with a dot), a file without a row (it is made again and replaced by equal bytes) or a torn last row (it is dropped, and
its image made again). When all is made, the manifest is rewritten in the order of label and index, so that its bytes do
not tell in which order the images came.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from concord.data.classes import ClassEntry
from concord.plan import Sample
from concord.recipe import Format
from concord.storage import atomic
from concord.storage.atomic import disk_errors, json_line, make_directories, write_atomically

MANIFEST = "metadata.jsonl"


SUFFIX = {"png": "png", "webp": "webp", "jpeg": "jpg"}


_MUST_HAVE = {"file_name": str, "label": int, "index": int}


Row = dict[str, Any]


class Store:
    """The images of one variant and their manifest, below `root`; open one under a `lock` only."""

    def __init__(self, root: Path, form: Format) -> None:
        self.root, self._form = root, form
        self._folders: set[Path] = set()
        with disk_errors(root):
            make_directories(root)
            self.rows = self._recover()

    def file_name(self, sample: Sample, entry: ClassEntry) -> str:
        """Return where a sample's image lies, relative to the root."""
        return f"{entry.folder}/{sample.index:05d}.{SUFFIX[self._form.kind]}"

    def has(self, sample: Sample, entry: ClassEntry) -> bool:
        """Say whether the sample is finished, and is what the plan says today."""
        row = self.rows.get(sample.place)
        return row is not None and {k: v for k, v in row.items() if k != "scores"} == self._planned(sample, entry)

    def add(
        self,
        sample: Sample,
        entry: ClassEntry,
        data: bytes,
        scores: Mapping[str, float | int],
        tensor: np.ndarray | None = None,
    ) -> None:
        """Store one finished image, and its pixels without rounding where they are given; then its row.

        Raises:
            ConcordError: the disk is full or refuses; what was stored before stays.
        """
        if sample.place in self.rows:  # it was planned otherwise then: the row goes before its image does
            del self.rows[sample.place]
            self._rewrite()
        row = {**self._planned(sample, entry), "scores": dict(scores)}
        path = self.root / row["file_name"]
        with disk_errors(path):
            if path.parent not in self._folders:
                make_directories(path.parent)
                self._folders.add(path.parent)
        if tensor is not None:
            place = self._tensor_file(row["file_name"])
            with disk_errors(place):
                make_directories(place.parent)
            write_atomically(place, _npy(tensor))
        write_atomically(path, data)
        with disk_errors(self.root / MANIFEST):
            self._append(json_line(row))
        self.rows[sample.place] = row

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
                # The image goes before its row: after a kill in between, the row is dropped for want of it.
                (self.root / row["file_name"]).unlink(missing_ok=True)
                self._tensor_file(row["file_name"]).unlink(missing_ok=True)
                del self.rows[row["label"], row["index"]]
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
        return row

    def _append(self, line: bytes) -> None:
        with open(self.root / MANIFEST, "ab") as file:
            end = file.tell()
            try:
                file.write(line)
                file.flush()
                atomic.failpoint("row written")
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(self.root / MANIFEST, end)  # a full disk takes half a row
                raise
        atomic.failpoint("row synced")

    def _rewrite(self) -> None:
        write_atomically(self.root / MANIFEST, b"".join(json_line(row) for row in self.rows.values()))

    def _recover(self) -> dict[tuple[int, int], Row]:
        """Read what an earlier run left, and put the manifest in order if it was killed."""
        for part in self.root.glob("**/.*.part"):
            part.unlink()
        path = self.root / MANIFEST
        if not path.exists():
            write_atomically(path, b"")
            return {}
        data = path.read_bytes()
        read = list(_rows(data))
        rows = {(row["label"], row["index"]): row for row in read if (self.root / row["file_name"]).is_file()}
        if b"".join(map(json_line, rows.values())) != data:
            write_atomically(path, b"".join(map(json_line, rows.values())))
        return rows


def read_manifest(root: Path) -> list[Row]:
    """Return the rows of a variant's directory (``DIR/images``) in the order of label and index."""
    return sorted(_rows((root / MANIFEST).read_bytes()), key=lambda row: (row["label"], row["index"]))


def _rows(data: bytes) -> Iterator[Row]:
    """Yield the whole rows of a manifest; a line without an end, or that is no row, was torn by a kill."""
    for line in data.split(b"\n")[:-1]:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and all(isinstance(row.get(k), t) for k, t in _MUST_HAVE.items()):
            yield row


def _npy(tensor: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(tensor, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()
