"""A manifest that lies about its images, or a file that is half there, would spoil a set without a word."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from concord.data.classes import ClassEntry
from concord.errors import ConcordError
from concord.plan import Sample
from concord.recipe import Format
from concord.runs.store import MANIFEST, Store, read_manifest
from concord.storage import atomic
from concord.storage.atomic import lock, write_json
from concord.storage.images import encode

DOG = ClassEntry(0, "großer hund", "großer hund", "großer hund")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 20, 3), dtype=np.uint8))


def _sample(index: int) -> Sample:
    return Sample(0, index, 7 + index, ("großer hund with ohren",), ("katze with \u2028 bart",), "p\nq", "src.jpg")


def _filled(root: Path, count: int, form: Format | None = None) -> Store:
    made = Store(root, form or Format())
    for i in range(count):
        made.add(_sample(i), DOG, encode(NOISE, form or Format()), {"uninformed_steps": i})
    return made


@pytest.mark.parametrize(("kind", "suffix", "magic"), [("png", "png", b"\x89PNG"), ("webp", "webp", b"RIFF")])
def test_png_and_webp_keep_every_pixel(tmp_path: Path, kind: str, suffix: str, magic: bytes) -> None:
    form = Format(kind=kind)  # type: ignore[arg-type]
    _filled(tmp_path, 1, form)
    path = tmp_path / "großer hund" / f"00000.{suffix}"
    assert path.read_bytes().startswith(magic)
    assert (np.asarray(Image.open(path).convert("RGB")) == np.asarray(NOISE)).all()


def test_jpeg_obeys_quality() -> None:
    small, large = (encode(NOISE, Format(kind="jpeg", quality=q)) for q in (30, 95))
    assert len(small) < len(large)
    error = np.asarray(Image.open(io.BytesIO(large))).astype(int) - np.asarray(NOISE)
    assert np.abs(error).mean() < 4


def test_rows_say_all_that_the_design_promises(tmp_path: Path) -> None:
    _filled(tmp_path, 1).finish()
    row = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    assert row == {
        "file_name": "großer hund/00000.png",
        "label": 0,
        "class_name": "großer hund",
        "index": 0,
        "seed": 7,
        "positives": ["großer hund with ohren"],
        "negatives": ["katze with \u2028 bart"],
        "prompt": "p\nq",
        "source": "src.jpg",
        "checkpoint": "",
        "scores": {"uninformed_steps": 0},
    }


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10_000), tail=st.binary(max_size=20))
def test_a_torn_manifest_gives_back_every_whole_row(
    tmp_path_factory: pytest.TempPathFactory, cut: int, tail: bytes
) -> None:
    root = tmp_path_factory.mktemp("store")
    _filled(root, 3)
    whole = (root / MANIFEST).read_bytes()
    kept = whole[: cut % (len(whole) + 1)]
    (root / MANIFEST).write_bytes(kept + tail.replace(b"\n", b" "))
    again = Store(root, Format())
    complete = kept.count(b"\n")
    assert sorted(again.rows) == [(0, i) for i in range(complete)]
    assert all(again.has(_sample(i), DOG) for i in range(complete))
    for i in range(complete, 3):
        again.add(_sample(i), DOG, encode(NOISE, Format()), {"uninformed_steps": i})
    again.finish()
    assert (root / MANIFEST).read_bytes() == whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), st.just(b'{"label": 1}'), st.just(b"[1]")), max_size=6))
def test_no_manifest_whatever_it_holds_stops_a_resume(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    root = tmp_path_factory.mktemp("store")
    (root / MANIFEST).write_bytes(b"\n".join(lines))
    assert Store(root, Format()).rows == {}


def test_a_row_without_its_file_is_dropped_and_partial_files_are_cleared(tmp_path: Path) -> None:
    _filled(tmp_path, 3)
    (tmp_path / "großer hund" / "00001.png").unlink()
    (tmp_path / "großer hund" / ".00007.png.part").write_bytes(b"half")
    again = Store(tmp_path, Format())
    assert sorted(again.rows) == [(0, 0), (0, 2)]
    assert [row["index"] for row in read_manifest(tmp_path)] == [0, 2]
    assert not list(tmp_path.rglob("*.part"))


def test_a_row_that_the_plan_no_longer_holds_is_made_again(tmp_path: Path) -> None:
    made = _filled(tmp_path, 2)
    other = Sample(0, 1, 99)
    assert not made.has(other, DOG)
    made.add(other, DOG, encode(NOISE, Format()), {})
    made.finish()
    assert [row["seed"] for row in read_manifest(tmp_path)] == [7, 99]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("at", ["written", "row written"])
def test_a_full_disk_is_one_line_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, at: str
) -> None:
    made = _filled(tmp_path, 2)
    before = (tmp_path / MANIFEST).read_bytes()

    def full(name: str) -> None:
        if name == at:
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "failpoint", full)
        with pytest.raises(ConcordError, match=r"the disk is full, cannot write .*give the same command again"):
            made.add(_sample(2), DOG, encode(NOISE, Format()), {})
    assert (tmp_path / MANIFEST).read_bytes() == before
    assert not list(tmp_path.rglob("*.part")), "its bytes are needed on a full disk"
    again = Store(tmp_path, Format())
    assert sorted(again.rows) == [(0, 0), (0, 1)]
    again.add(_sample(2), DOG, encode(NOISE, Format()), {})
    assert len(read_manifest(tmp_path)) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    made = _filled(tmp_path, 1)
    (tmp_path / MANIFEST).rename(tmp_path / "kept")
    (tmp_path / MANIFEST).symlink_to("/dev/full")
    with pytest.raises(ConcordError, match="the disk is full"):
        made.add(_sample(1), DOG, encode(NOISE, Format()), {})


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConcordError, match=r"cannot write .*file"):
        Store(tmp_path / "file" / "images", Format())
    with pytest.raises(ConcordError, match="cannot write"), lock(tmp_path / "file"):
        pass


def test_json_bears_its_schema_and_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"wörter": [1.5]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"schema": 1, "wörter": [1.5]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"x": float("nan")})


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    holder = "import sys, time; from pathlib import Path; from concord.runs.store import lock\n"
    holder += f"with lock(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ConcordError, match="in use by another run"), lock(tmp_path):
            pass
        other.kill()
    with lock(tmp_path):
        pass
