"""As much of a model hub's HTTP as looking and fetching ask for, on this machine alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"


class ModelHub(ThreadingHTTPServer):
    """repos: id -> path in it -> content. licences: id -> what its card says.

    sent: (path, first byte) of every file that was sent. drop: files whose connection breaks half way, once.
    stall: a file whose second half never comes; `stalled` is set by then.
    """

    daemon_threads = True

    def __init__(self, repos: dict[str, dict[str, bytes]], licences: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repos, self.licences = repos, licences
        self.sent: list[tuple[str, int]] = []
        self.drop: set[str] = set()
        self.stall = ""
        self.stalled, self.closing = threading.Event(), threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what is tested."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: ModelHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        for model, files in self.server.repos.items():
            if path.startswith(f"/{model}/resolve/"):
                return self._file(path.split("/", 5)[5], files)
            if path.startswith(f"/api/models/{model}"):
                return self._api(path.removeprefix(f"/api/models/{model}"), model, files)
        self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _api(self, rest: str, model: str, files: dict[str, bytes]) -> None:
        if rest.startswith("/tree/"):
            return self._json(
                [{"type": "file", "path": n, "size": len(b), "oid": _digest(b)} for n, b in files.items()]
            )
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        card = {"license": self.server.licences[model]} if model in self.server.licences else {}
        self._json({"id": model, "sha": SHA, "siblings": siblings, "cardData": card})

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _file(self, name: str, files: dict[str, bytes]) -> None:
        content = files[name]
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{_digest(content)}"')
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        self.server.sent.append((name, begin))
        with contextlib.suppress(OSError):
            half = (len(content) + begin) // 2
            broken = name in self.server.drop or name == self.server.stall
            self.wfile.write(content[begin : half if broken else None])
            self.wfile.flush()
            if name == self.server.stall:
                self.server.stalled.set()
                self.server.closing.wait(30)
            if broken:
                self.server.drop.discard(name)
                self.close_connection = True
                self.connection.shutdown(2)

    def log_message(self, *_: object) -> None: ...


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def files_of(folder: Path) -> dict[str, bytes]:
    """A model's directory as a repository's files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@contextlib.contextmanager
def serving(repos: dict[str, dict[str, bytes]], licences: dict[str, str] | None = None) -> Iterator[ModelHub]:
    hub = ModelHub(repos, licences or {})
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()
