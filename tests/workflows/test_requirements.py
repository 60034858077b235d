"""Models that are missing: what the hub says becomes the reason in the one line that the user reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Hub(BaseHTTPRequestHandler):
    """As much of a model hub as `model_info` asks for."""

    def do_GET(self) -> None:
        status, headers, body = 404, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}
        if "radames" in self.path:
            status, headers, body = 200, {}, {"id": "radames/stable-diffusion-2-1-unclip-img2img", "siblings": []}
        elif "gated" in self.path:
            status, headers, body = 403, {"X-Error-Code": "GatedRepo"}, {"error": "gated"}
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def missing(tmp_path: Path, endpoint: str, *overrides: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "concord.cli", "distill", "imagewoof-unclip", *overrides],
        cwd=tmp_path,
        env=environment | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


def test_a_mirror_that_has_one_model_and_not_the_other(tmp_path: Path, hub: str) -> None:
    line = missing(tmp_path, hub)
    assert "needs a model that is missing here: laion/CLIP-ViT-L-14-laion2B-s32B-b82K (`encoder`, MIT)" in line
    assert "the hub has no such model" in line
    assert "radames" not in line


def test_a_gated_model_wants_a_login(tmp_path: Path, hub: str) -> None:
    line = missing(tmp_path, hub, "encoder=someone/gated")
    assert "someone/gated" in line
    assert "licence accepted and a login" in line


def test_an_unreachable_hub_and_a_directory_that_is_not_there(tmp_path: Path) -> None:
    line = missing(tmp_path, "http://127.0.0.1:9", "encoder=./clip")
    assert "the hub cannot be reached" in line
    assert "./clip (`encoder`, licence not known here): there is no such directory" in line
