"""A recipe quotes the paper's accuracy from this table: a number in the wrong column is a target nobody can reach."""

from __future__ import annotations

import csv
import re
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from concord.data.class_lists import class_lists
from concord.paper import Cell, accuracy, cells

PAPER = Path(__file__).parents[3] / "shared" / "paper" / "concord.txt"
MAIN = ("dit", "minimax", "unclip")

# The numbers of the two garbled tables, in the order of the scan and with its slips (a rule read as a leading 1).
SCAN = {
    (1, 1): """28.6 0.8 13.3 0.5 18.5 0.9 13.4 0.1 19.6 1.8 17.1 1.3 14.2 1.1 20.8 1.2 18.3 0.7 15.3 1.1 20.5 0.8
        16.7 0.2 17.8 0.8 16.9 1.0 14.9 1.3 20.5 0.4 16.7 0.7 17.4 1.1 14.9 0.2 19.9 0.7 15.3 1.3""",
    (1, 10): """35.8 1.8 20.2 0.2 40.6 2.0 17.7 0.9 31.3 1.3 31.1 0.3 35.7 0.9 42.2 1.2 41.2 0.8 38.5 2.1 38.2 1.1
        42.8 1.1 43.1 0.5 44.4 0.9 36.5 0.9 40.1 0.8 37.9 1.1 130.7 0.9 41.2 0.8 40.7 0.4 31.9 1.1""",
    (1, 50): """23.3 0.3 68.5 0.7 65.9 0.2 67.8 0.5 21.2 0.2 59.1 0.7 60.1 1.1 62.2 0.6 61.5 0.3 59.9 0.2 61.1 0.8
        62.5 0.9 69.2 1.0 63.6 0.2 59.5 1.4 63.6 0.6 60.0 1.0 60.4 0.4 66.1 1.1 60.8 0.9""",
    (9, 1): """16.3 0.5 15.8 0.6 15.1 0.2 15.7 0.8 16.1 0.4 16.7 0.5 15.3 1.1 14.0 0.6 13.7 1.2 16.8 1.1 17.1 0.2
        16.7 0.2 14.1 0.6 16.3 0.6 14.2 1.1 17.8 0.8 16.9 1.0 14.9 1.3 69.0 0.2 76.9 0.1 77.6 0.2""",
    (9, 10): """40.5 1.5 34.3 1.6 37.1 0.9 33.1 0.5 32.1 1.0 31.6 0.3 33.8 0.4 30.8 1.2 35.7 0.9 41.2 0.4 38.5 0.6
        36.8 0.6 36.5 1.2 41.2 0.8 142.8 11 43.1 0.5 44.4 0.9 36.5 0.9 69.0 0.2 76.9 0.1 77.6 0.2""",
    (9, 50): """60.9 0.9 57.7 1.2 67.1 1.0 64.3 0.9 67.6 0.5 64.9 0.6 67.8 0.5 61.4 0.7 58.8 0.4 60.8 0.3 57.2 0.6
        62.2 0.6 60.4 0.8 61.0 0.6 61.1 0.8 62.5 0.9 69.2 1.0 63.6 0.2 69.0 0.2 76.9 0.1 77.6 0.2""",
}
# Lines that stand whole among the merged numbers; the last number is Minimax in both tables.
LINES = {
    (9, "resnet18", 1): ("random k_center herding idm minimax", "15.1 15.7 16.1 16.7 15.3"),
    (9, "resnet101", 50): ("random k_center herding idm minimax", "61.4 58.8 60.8 57.2 62.2"),
    (1, "resnet101", 1): ("sre2l rded dit minimax", "13.4 19.6 17.1 14.2"),
    (1, "resnet101", 10): ("sre2l rded dit minimax", "17.7 31.3 31.1 35.7"),
    (1, "resnet18", 50): ("sre2l rded dit minimax", "23.3 68.5 65.9 67.8"),
}
# Table 2 of the RDED paper (arXiv 2312.03526), as Table 1 of arXiv 2601.21296 repeats it: ImageWoof at IPC 1, 10, 50.
RDED = {
    ("mtt", "convnet"): [(28.6, 0.8), (35.8, 1.8), None],
    ("sre2l", "resnet18"): [(13.3, 0.5), (20.2, 0.2), (23.3, 0.3)],
    ("sre2l", "resnet101"): [(13.4, 0.1), (17.7, 0.9), (21.2, 0.2)],
    ("rded", "convnet"): [(18.5, 0.9), (40.6, 2.0), (61.5, 0.3)],
    ("rded", "resnet18"): [(20.8, 1.2), (38.5, 2.1), (68.5, 0.7)],
    ("rded", "resnet101"): [(19.6, 1.8), (31.3, 1.3), (59.1, 0.7)],
}
# Rows of the scan that are whole: three accuracies with their deviations, for IPC 1, 10 and 50.
WHOLE = {
    ("imagenet-100", "minimax", True): "Minimax C | 7.1 0.2 | 33.3 0.6 | 64.9 0.3",
    ("imagenet-100", "unclip", False): "unCLIP | 7.1 0.1 | 26.9 0.4 | 64.6 0.2",
    ("imagenet-1k", "dit", False): "DiT | 6.1 0.1 | 41.3 0.3 | 56.6 0.2",
    ("imagenet-1k", "unclip", True): "unCLIP C | 6.2 0.3 | 42.5 0.2 | 58.5 0.1",
    ("food-101", "unclip", True): "unCLIP C | 6.9 0.1 | 32.0 0.2 | 62.5 0.2",
}


def _numbers(cell: Cell) -> tuple[float | None, float | None]:
    return cell.mean, cell.std


def test_the_columns_and_their_values_are_the_known_ones() -> None:
    text = (resources.files("concord.paper") / "tables.csv").read_text(encoding="utf-8")
    header = "table,dataset,method,informed,student,ipc,variant,mean,std,unit,status,note"
    assert text.splitlines()[0] == header
    for row in csv.DictReader(text.splitlines()):
        assert None not in row
        assert row["informed"] in {"true", "false"}
        assert row["dataset"] in {"", *class_lists()}
        assert row["student"] in {"", "convnet", "resnet18", "resnet101"}
        assert row["ipc"] in {"", "1", "10", "50"}
        assert row["method"] in {*MAIN, "mtt", "sre2l", "rded", "random", "k_center", "herding", "idm", "full"}
    assert {cell.table for cell in cells()} == set(range(1, 10))


def test_no_cell_stands_twice() -> None:
    keys = Counter((c.table, c.dataset, c.method, c.informed, c.student, c.ipc, c.variant) for c in cells())
    assert max(keys.values()) == 1


def test_status_says_whether_there_is_a_number_and_why() -> None:
    for cell in cells():
        if cell.status == "unreadable":
            assert _numbers(cell) == (None, None)
            assert cell.note
        else:
            assert cell.status == "read" or (cell.status == "deduced" and cell.note)
            assert cell.mean is not None and 0 < cell.mean < 100
            assert (cell.std is None) == (cell.unit == "seconds")
        assert (cell.unit == "seconds") == (cell.table == 8)


@pytest.mark.parametrize(("table", "ipc"), SCAN)
def test_no_number_of_the_garbled_tables_is_lost_or_invented(table: int, ipc: int) -> None:
    here = [c for c in cells(table) if c.ipc == ipc or c.method == "full"]
    told = Counter(_numbers(c) for c in here if c.mean is not None)
    notes = {c.note for c in here if c.status == "unreadable"}
    for note in notes:
        told.update((float(m), float(s)) for m, s in re.findall(r"(\d+\.\d)±(\d\.\d)", note))
    words = SCAN[table, ipc].replace("142.8 11", "42.8 1.1").replace("130.7", "30.7").split()
    assert told == Counter((float(m), float(s)) for m, s in zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize(("table", "student", "ipc"), LINES)
def test_a_line_that_stands_whole_keeps_its_order(table: int, student: str, ipc: int) -> None:
    columns, line = LINES[table, student, ipc]
    assert line in " ".join(SCAN[table, ipc].split()[::2])
    means = {c.method: c.mean for c in cells(table) if (c.student, c.ipc, c.informed) == (student, ipc, False)}
    assert [means[method] for method in columns.split()] == [float(mean) for mean in line.split()]


@pytest.mark.parametrize(("dataset", "method", "informed"), WHOLE)
def test_whole_rows_are_as_printed(dataset: str, method: str, informed: bool) -> None:
    for ipc, printed in zip((1, 10, 50), WHOLE[dataset, method, informed].split("|")[1:], strict=True):
        cell = accuracy(dataset, method, informed, "resnet18", ipc)
        assert cell is not None and cell.status == "read"
        assert _numbers(cell) == tuple(float(number) for number in printed.split())


@pytest.mark.parametrize(("method", "student"), RDED)
def test_the_compared_methods_are_as_their_own_paper_has_them(method: str, student: str) -> None:
    found = [accuracy("imagewoof", method, False, student, ipc) for ipc in (1, 10, 50)]
    assert [cell and _numbers(cell) for cell in found] == RDED[method, student]


def test_tables_that_repeat_each_other_agree() -> None:
    first = {(c.student, c.ipc, c.informed): c for c in cells(1) if c.method == "minimax"}
    again = {(c.student, c.ipc, c.informed): c for c in cells(9) if c.method == "minimax"}
    assert first.keys() == again.keys() and len(first) == 18
    assert {key: _numbers(cell) for key, cell in first.items()} == {key: _numbers(cell) for key, cell in again.items()}
    for cell in cells(4):
        if cell.variant == "prompt=ours-gpt-4":
            main = accuracy(cell.dataset, cell.method, cell.informed, cell.student, cell.ipc)
            assert main is not None and main.table == 1 and _numbers(main) == _numbers(cell)


def test_looking_up() -> None:
    assert accuracy("imagenette", "dit", False, "resnet18", 10) is None
    full = accuracy("imagewoof", "full", False, "resnet18", None)
    assert full is not None and _numbers(full) == (76.9, 0.1)
    lost = accuracy("imagewoof", "unclip", True, "convnet", 1)
    assert lost is not None and lost.status == "unreadable"
    # Table 8: "2.1", "5.3", "9.7" and "22.8" under Minimax, Minimax C, unCLIP, unCLIP C.
    assert [(c.method, c.informed, c.mean) for c in cells(8)] == [
        ("minimax", False, 2.1),
        ("minimax", True, 5.3),
        ("unclip", False, 9.7),
        ("unclip", True, 22.8),
    ]


@pytest.mark.shared
@pytest.mark.skipif(not PAPER.is_file(), reason="../shared/paper is not here")
def test_the_quoted_rows_are_those_of_the_scan() -> None:
    rows = [line for line in PAPER.read_text(encoding="utf-8").splitlines() if re.match(r"\$?(1|10|50) ?\(", line)]
    assert len(rows) == len(SCAN)
    for row, quoted in zip(rows, SCAN.values(), strict=True):
        body = row.split("\t", 2)[2]  # after the ratio and the students
        assert re.findall(r"\d+\.\d", body) == re.findall(r"\d+\.\d", quoted)
