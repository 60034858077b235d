"""Output goes to any encoding and any pipe: what it lacks is stood in for, and a reader who left stops no work."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Output = Callable[..., subprocess.CompletedProcess[bytes]]
PRINTS = """
import sys
from pathlib import Path
from typer import Exit
from concord.cli.common import open_output, user_errors
from concord.cli.console import Console
open_output()
try:
    with user_errors():
        for i in range(int(sys.argv[1])):
            said = Console(stderr=i % 3 == 2).say if i % 2 else print
            said("\\u2713 \\u65e5\\u672c \\xb7 caf\\xe9" if i % 2 else "\\u2717 \\ud800 \\xe9")
        Path("done").touch()
except Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.fixture
def prints(tmp_path: Path) -> Output:
    def run(lines: int, encoding: str, **more: object) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", PRINTS, str(lines)]
        return subprocess.run(command, env=environment, cwd=tmp_path, **more)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", ["✗ ? é", "✓ 日本 · café"]),
        ("cp1252", ["x ? é", "+ ?? · café"]),
        ("ascii", ["x ? ?", "+ ?? - caf?"]),
        ("shift_jis", ["x ? ?", "+ 日本 - caf?"]),
    ],
)
def test_what_an_encoding_lacks_is_stood_in_for(prints: Output, encoding: str, expected: list[str]) -> None:
    done = prints(2, encoding, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).splitlines() == expected


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_who_left_stops_nothing(prints: Output, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = prints(5000, "utf-8", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "done").exists(), "the work went on"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_once(prints: Output) -> None:
    with open("/dev/full", "wb") as full:
        done = prints(1, "utf-8", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"error: No space left on device\n")
