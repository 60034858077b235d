"""A vision-language model as a judge: what it is asked, by what it is believed, and that nothing is asked twice."""

from __future__ import annotations

import json
import math
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from concord.errors import ConcordError
from concord.metrics.vqa import Answers, Vqa, build
from concord.models.cache import ModelCache
from concord.recipe import load
from concord.recipe.sections import Scorer


class Judge(BaseHTTPRequestHandler):
    """Says yes to "red" where an image is red, with 3 to 1; `words`: only as a word; `odd`: neither yes nor no."""

    manner = "shares"
    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(asked)
        if self.manner == "words" and "logprobs" in asked:
            return self.answer(400, {"error": {"message": "logprobs are not supported"}})
        image, question = asked["messages"][0]["content"]
        data = b64decode(image["image_url"]["url"].partition(",")[2])
        red, _, blue = Image.open(BytesIO(data)).convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
        yes = ("red" in question["text"]) == (red > blue)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        said = "It depends." if self.manner == "odd" else "Yes." if yes else "no"
        choice["message"] = {"role": "assistant", "content": said}
        if self.manner == "shares":
            of = {" Yes": 0.3, "yes": 0.3, "No": 0.2} if yes else {"No": 0.6, "Yes": 0.2}
            top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in of.items()]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        self.answer(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(Judge, "seen", [], raising=False)
    monkeypatch.setattr(Judge, "manner", "shares")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("CONCORD_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "vqa.jsonl"
    server.shutdown()
    server.server_close()
    thread.join()


def judge() -> Vqa:
    recipe = load("reef").model_copy(update={"scorer": Scorer(kind="vqa", model="m")})
    return build(recipe, ModelCache(recipe), lambda encoder, name: torch.empty(0))


def pictures() -> torch.Tensor:
    """A red and a blue image."""
    pixels = -torch.ones(2, 3, 4, 4)
    pixels[0, 0], pixels[1, 2] = 1, 1
    return pixels


CONCEPTS = [("fish", "a red tail"), ("fish", "a blue fin")]


def test_the_share_of_yes_counts_and_nothing_is_asked_twice(place: Path) -> None:
    scorer = judge()
    rated = scorer.rate(pictures(), CONCEPTS)
    torch.testing.assert_close(rated, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    assert (scorer.asked, scorer.known) == (4, 0)
    questions = {asked["messages"][0]["content"][1]["text"] for asked in Judge.seen}
    assert questions == {f'Does this figure show "fish with {p}"? Please answer yes or no.' for _, p in CONCEPTS}
    with place.open("a") as file:
        file.write('["torn')
    again = judge()
    torch.testing.assert_close(again.rate(pictures().flip(0), CONCEPTS), rated.flip(0))
    assert (again.asked, again.known, len(Judge.seen)) == (0, 4, 4)


def test_a_server_without_probabilities_is_taken_at_its_word(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "manner", "words")
    assert judge().rate(pictures(), CONCEPTS).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_what_is_no_answer_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "manner", "odd")
    with pytest.raises(ConcordError, match="neither yes nor no: It depends"):
        judge().rate(pictures(), CONCEPTS)
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(ConcordError, match="set OPENAI_API_KEY, or OPENAI_BASE_URL"):
        judge()
    recipe = load("reef", ["scorer={kind: vqa}"])
    with pytest.raises(ConcordError, match="needs a vision-language model's name"):
        build(recipe, ModelCache(recipe), lambda encoder, name: torch.empty(0))


def test_answers_survive_in_their_file(tmp_path: Path) -> None:
    Answers(tmp_path / "a" / "b.jsonl").add("key", 0.25)
    assert Answers(tmp_path / "a" / "b.jsonl").find("key") == 0.25
