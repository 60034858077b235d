"""A manifest that is read row by row gives what one that is read whole gives."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import pytest

from concord.errors import ConcordError
from concord.runs.manifest import Rows
from concord.runs.store import read_rows


def manifest(path: Path, classes: int, each: int, torn: bytes = b"") -> Path:
    rows = [
        {
            "file_name": f"c{label}/{index:05d}.png",
            "label": label,
            "index": index,
            "positives": [f"ä long tail {index}"] * 9,
        }
        for label in range(classes)
        for index in range(each)
    ]
    random.Random(0).shuffle(rows)
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    path.write_bytes(b"".join(lines) + torn)
    return path


def test_rows_are_those_of_the_whole_in_the_same_order(tmp_path: Path) -> None:
    path = manifest(tmp_path / "rows", 7, 5, torn=b'{"file_name": "c0')
    whole, rows = read_rows(path), Rows(path)
    assert list(rows) == whole
    assert [rows[n] for n in (3, -1)] == [whole[3], whole[-1]]
    assert rows[4:20:3] == whole[4:20:3]
    assert list(rows.at([9, 2, 9])) == [whole[9], whole[2], whole[9]]
    assert [*zip(rows.labels, rows.indices, strict=True)] == [(row["label"], row["index"]) for row in whole]
    assert list(Rows(manifest(tmp_path / "none", 0, 0))) == []
    with pytest.raises(IndexError):
        rows[35]


def test_a_line_that_is_no_row_is_named_as_for_the_whole(tmp_path: Path) -> None:
    path = manifest(tmp_path / "rows", 2, 2, torn=b'{"label": 0}\n')
    said = []
    for read in (read_rows, Rows):
        with pytest.raises(ConcordError) as caught:
            read(path)
        said.append(str(caught.value))
    assert said[0] == said[1] and "line 5 is no row" in said[0]


@pytest.mark.parametrize("after", [b"", b"\x00" * 2000, b'{"label": 3, "index": 1}\n' * 40])
def test_a_file_that_is_another_one_meanwhile_is_an_error(tmp_path: Path, after: bytes) -> None:
    rows = Rows(path := manifest(tmp_path / "rows", 2, 2))
    path.write_bytes(after)
    with pytest.raises(ConcordError, match="was changed while it was read"):
        list(rows)


def test_a_manifest_is_gone_through_in_the_memory_of_an_index(tmp_path: Path) -> None:
    path, most = manifest(tmp_path / "rows", 40, 50), []
    for read in (Rows, read_rows):
        tracemalloc.start()
        assert sum(len(row["positives"]) for row in read(path)) == 9 * 2000
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[0] < most[1] / 10
