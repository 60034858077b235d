import contextlib
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from concord.errors import ConcordError

LOCK = ".concord.lock"
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
"""What a system says of a file that another process locked; Windows the last two."""


def _nothing(name: str) -> None:
    """Do nothing; see `failpoint`."""


failpoint: Callable[[str], None] = _nothing
"""Called with a name between any two steps of writing; the tests put a kill here."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that after a kill or a power cut it is the old or the new one; see `disk_errors`."""
    part = path.with_name(f".{path.name}.part")
    with disk_errors(path):
        try:
            part.unlink(missing_ok=True)  # of a kill; were it a link, what it leads to would be written
            with open(part, "xb") as file:
                failpoint("opened")
                file.write(data)
                file.flush()
                failpoint("written")
                os.fsync(file.fileno())
            failpoint("synced")
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()  # on a full disk its bytes are needed
            raise
        failpoint("renamed")
        _sync_directory(path.parent)
        failpoint("settled")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file with ``"schema": 1`` in front, atomically."""
    write_atomically(path, (as_json(values) + "\n").encode())


def as_json(values: Mapping[str, Any]) -> str:
    """An object as JSON for people, with ``"schema": 1`` in front."""
    return json.dumps({"schema": 1, **values}, ensure_ascii=False, indent=2, allow_nan=False)


def json_line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path, damaged: Callable[[str], str] | None = None) -> dict[str, Any]:
    """Read a JSON object; empty where there is no such file.

    damaged: says what is wrong with a file that holds none, given the decoder's words; None: it counts as empty.
    Raises ConcordError: it is damaged, in the words of `damaged`.
    """
    reason, values = "", None
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        reason = str(error)
    except OSError:
        if damaged is not None:
            raise
    if isinstance(values, dict):
        return values
    if damaged is None:
        return {}
    raise ConcordError(damaged(reason))


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into a line for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConcordError(
                f"the disk is full, cannot write {path}; what is finished stays:"
                " free some space and give the same command again"
            ) from error
        raise ConcordError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def lock(directory: Path, name: str = LOCK, *, shared: bool = False, wait: float = 0.0) -> Iterator[None]:
    """Hold a directory, or the file that a lock `name` in it is for, as its only writer.

    The operating system frees it when the process ends, however it ends. shared: hold it with others who share it, and
    against those who do not. wait: seconds to wait for whoever has it. A ConcordError: another process holds it; the
    file system has no locks.
    """
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / name, "a+b", opener=_no_link)  # noqa: SIM115 - open as long as the lock is held
    with file:
        end = time.monotonic() + wait
        try:
            while not _take(file.fileno(), shared, time.monotonic() >= end):
                time.sleep(0.1)
        except OSError as error:
            if error.errno in _TAKEN:
                raise ConcordError(
                    f"the directory {directory} is in use by another run; wait for it to end, or give another --out"
                ) from None
            raise ConcordError(
                f"the file system of {directory} has no locks ({error.strerror or error}), and two runs there would"
                " spoil each other's files; mount it with them (Lustre: -o flock; NFS: without nolock), or give another"
                " --out"
            ) from error
        yield


def _take(descriptor: int, shared: bool, at_last: bool) -> bool:
    """Lock a file; say whether it is. An OSError where it cannot be, or another has it and this was the last trial."""
    try:
        if sys.platform == "win32":
            import msvcrt

            if shared:
                raise OSError(errno.ENOSYS, "no shared locks on Windows")
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _TAKEN or at_last:
            raise
        return False
    return True


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def make_directories(path: Path) -> None:
    """Make a directory and those above it, so that they outlast a power cut."""
    if path.is_dir():
        return
    make_directories(path.parent)
    path.mkdir(exist_ok=True)
    _sync_directory(path.parent)


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield a directory beside `target` to fill; it takes its place, which is not there or empty.

    After an error it is gone, and after a kill with the next call.
    """
    part, name = target.with_name(f".{target.name}.part"), f".{target.name}.lock"
    with lock(target.parent, name):
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part
            if target.is_dir():
                target.rmdir()  # empty; Windows renames over no directory
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            (target.parent / name).unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    if sys.platform == "win32":
        return  # a directory cannot be opened there; the file system keeps its own journal
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
