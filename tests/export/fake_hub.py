"""The part of the Hugging Face hub's HTTP that pushing and fetching a data set speaks, on this machine alone."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "sEcReT" * 5
LFS = (".png", ".parquet", ".npz")
"""What the hub stores beside git."""


@dataclass
class Repository:
    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.png filter=lfs\n"}])

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]


def commit_id(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


@dataclass
class FakeHub:
    """Repositories, stored objects by SHA-256, and what was asked for; uploads after `hold` wait until it is freed."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    writers: set[str] = field(default_factory=lambda: {"me", "my-name"})
    hold: int | None = None
    held: threading.Event = field(default_factory=threading.Event)
    freed: threading.Event = field(default_factory=threading.Event)

    def puts(self) -> list[str]:
        return [one for one in self.asked if one.startswith("PUT /lfs/")]


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(_Handler):
        of = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.freed.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    of: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal of the tests."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        url = urlsplit(self.path)
        place = unquote(url.path)
        self.of.asked.append(f"{self.command} {place}")
        with contextlib.suppress(BrokenPipeError):  # the client was killed
            self._route(place.strip("/").split("/"), body)

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _route(self, at: list[str], body: bytes) -> None:
        match at:
            case ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", "models", org, name]:
                licence = self.of.models.get(f"{org}/{name}")
                found = {"id": f"{org}/{name}", "cardData": {"license": licence}, "siblings": [], "tags": []}
                self._json(found) if licence else self._refuse(404, "RepoNotFound")
            case ["lfs", oid]:
                self._store(oid, body)
            case ["api", "datasets", org, name, *rest] | ["datasets", org, name, *rest]:
                self._of_repository(f"{org}/{name.removesuffix('.git')}", rest, body)
            case _:
                self._refuse(404, "")

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        there = {"url": f"{self.of.url}/datasets/{name}"}
        if not self._known:
            return self._refuse(401, "")
        if wanted["organization"] not in self.of.writers:
            return self._refuse(403, "", "You don't have the rights to create a dataset under this namespace")
        if name in self.of.repositories:
            return self._send(409, json.dumps(there).encode(), {})
        self.of.repositories[name] = Repository(_is_private(wanted))
        return self._json(there)

    def _of_repository(self, name: str, rest: list[str], body: bytes) -> None:
        repository = self.of.repositories.get(name)
        if repository is None or (repository.private and not self._known):
            return self._refuse(404 if self._known else 401, "RepoNotFound")
        revisions = {commit_id(i): i for i in range(len(repository.commits))} | {"main": len(repository.commits) - 1}
        match rest:
            case [] | ["revision", _]:
                number = revisions.get(rest[1] if rest else "main")
                if number is None:
                    return self._refuse(404, "RevisionNotFound")
                siblings = [{"rfilename": path} for path in repository.commits[number]]
                more = {"private": repository.private, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
                return self._json({"id": name, "sha": commit_id(number), **more})
            case ["tree", revision, *folder]:
                below = "".join(f"{name}/" for name in folder)
                found = _entries(repository.commits[revisions[revision]], below)
                if "recursive=true" not in urlsplit(self.path).query.lower():
                    found = [one for one in found if "/" not in one["path"].removeprefix(below)]
                return self._json(found) if found else self._refuse(404, "EntryNotFound")
            case ["paths-info", revision]:
                wanted = parse_qs(body.decode())["paths"] if body[:1] != b"{" else json.loads(body)["paths"]
                found = _entries(repository.commits[revisions[revision]])
                return self._json([one for one in found if one["path"] in wanted])
            case ["preupload", _]:
                wanted = [one["path"] for one in json.loads(body)["files"]]
                return self._json({"files": [self._mode(repository, path) for path in wanted]})
            case ["info", "lfs", "objects", "batch"]:
                objects = [self._batch(one) for one in json.loads(body)["objects"]]
                return self._json({"transfer": "basic", "objects": objects})
            case ["commit", _]:
                return self._commit(name, repository, [json.loads(line) for line in body.splitlines() if line.strip()])
            case ["settings"]:
                repository.private = _is_private(json.loads(body))
                return self._json({})
            case ["resolve", revision, *path]:
                return self._file(revision, repository.commits[revisions[revision]].get("/".join(path)))
        return self._refuse(404, "")

    def _mode(self, repository: Repository, path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(LFS) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.of.objects:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.of.url}/lfs/{wanted['oid']}"}}}

    def _store(self, oid: str, body: bytes) -> None:
        if self.of.hold is not None and len(self.of.objects) >= self.of.hold:
            self.of.held.set()
            self.of.freed.wait()
            return
        assert hashlib.sha256(body).hexdigest() == oid
        self.of.objects[oid] = body
        self._json({})

    def _commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        files = dict(repository.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.of.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repository.commits.append(files)
        oid = commit_id(len(repository.commits) - 1)
        self._json({"commitOid": oid, "commitUrl": f"{self.of.url}/datasets/{name}/commit/{oid}"})

    def _file(self, revision: str, data: bytes | None) -> None:
        if data is None:
            return self._refuse(404, "EntryNotFound")
        headers = {"X-Repo-Commit": revision, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        return self._send(200, data, headers)

    def _json(self, values: Any) -> None:
        self._send(200, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, said: str = "") -> None:
        headers = {key: value for key, value in (("X-Error-Code", code), ("X-Error-Message", said)) if value}
        self._send(status, b"{}", headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _is_private(wanted: dict[str, Any]) -> bool:
    """In both spellings that clients have had."""
    return wanted.get("visibility") == "private" or wanted.get("private") is True


def _entries(files: dict[str, bytes], below: str = "") -> list[dict[str, Any]]:
    """Files and folders as the hub lists them."""
    parts = [path.split("/") for path in files]
    folders = sorted({"/".join(names[:i]) for names in parts for i in range(1, len(names))})
    found = [_entry(path, data) for path, data in files.items()]
    found += [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders]
    return [one for one in found if one["path"].startswith(below)]


def _entry(path: str, data: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": oid}
    if path.endswith(LFS):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry
