"""A vision-language model as a scorer: VQAScore's question (Lin et al. 2024), asked of a server with the chat protocol.

An image shows a concept as surely as the model says yes: by the probability of that word where the server tells it,
else by the word. What was answered is kept in a file, so that nothing is asked and paid twice.
"""

import asyncio
import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from concord.concepts.bank import concept_text
from concord.concepts.llm.client import OPENAI, Chat, Server, ask_together
from concord.errors import ConcordError
from concord.metrics.scorers import Concept
from concord.models.cache import ModelCache
from concord.recipe import Format, Recipe
from concord.storage import images

QUESTION = 'Does this figure show "{text}"? Please answer yes or no.'
AT_ONCE = 16
"""Questions that wait for an answer at the same time."""


class Answers:
    """Probabilities of yes by question, kept in a file of JSON lines that is only ever added to."""

    def __init__(self, path: Path) -> None:
        self.path, self._known = path, dict[str, float]()
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                key, yes = json.loads(line)
                self._known[str(key)] = float(yes)
            except (ValueError, TypeError):
                continue  # a line that was torn by a kill

    def find(self, key: str) -> float | None:
        return self._known.get(key)

    def add(self, key: str, yes: float) -> None:
        self._known[key] = yes
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, round(yes, 6)]) + "\n")


class Vqa:
    """A `Scorer` that asks a server, and `Tells` how many questions it was asked, and how many before."""

    threshold = 0.5

    def __init__(self, server: Server, answers: Answers) -> None:
        self._server, self._answers = server, answers
        self.asked = self.known = 0

    def facts(self) -> dict[str, Any]:
        return {"judge_questions": {"asked": self.asked, "known": self.known}}

    def rate(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        pictures = [images.encode(image, Format()) for image in images.to_pil(pixels)]
        questions = [QUESTION.format(text=concept_text(*concept)) for concept in concepts]
        keys = [[_key(self._server.model, picture, question) for question in questions] for picture in pictures]
        open_ = {
            key: (picture, question)
            for of_image, picture in zip(keys, pictures, strict=True)
            for key, question in zip(of_image, questions, strict=True)
            if self._answers.find(key) is None
        }
        self.asked += len(open_)
        self.known += sum(map(len, keys)) - len(open_)
        if open_:
            asyncio.run(self._ask(open_))
        return torch.tensor([[self._answers.find(key) or 0.0 for key in of_image] for of_image in keys])

    async def _ask(self, questions: dict[str, tuple[bytes, str]]) -> None:
        waiting = iter(questions.items())

        async def work(chat: Chat) -> None:
            for key, (picture, question) in waiting:
                self._answers.add(key, await chat.yes(question, f"data:image/png;base64,{b64encode(picture).decode()}"))

        async with aclosing(Chat(self._server)) as chat:
            await ask_together(chat, work, min(AT_ONCE, len(questions)))


def _key(model: str, picture: bytes, question: str) -> str:
    return hashlib.sha256(b"\0".join([model.encode(), question.encode(), picture])).hexdigest()[:32]


def cache_path() -> Path:
    """Where answers are kept: CONCORD_CACHE, else the cache folder of the user."""
    home = os.environ.get("CONCORD_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "concord"
    return Path(home).expanduser() / "vqa.jsonl"


def build(recipe: Recipe, models: ModelCache, real: Callable[..., Tensor]) -> Vqa:
    """The scorer `vqa`: the model of its name on the server that the environment names."""
    if not recipe.scorer.model:
        raise ConcordError("the scorer vqa needs a vision-language model's name: set scorer.model, or select.model")
    address, key = os.environ.get("OPENAI_BASE_URL") or OPENAI, os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and address == OPENAI:
        raise ConcordError(
            f"the scorer vqa asks {OPENAI}, which needs a key: set OPENAI_API_KEY, or OPENAI_BASE_URL to a server that"
            " needs none"
        )
    return Vqa(Server(address, recipe.scorer.model, key, stream=False), Answers(cache_path()))
