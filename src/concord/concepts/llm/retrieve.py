"""From class names to a bank: every class is asked for until its phrases are complete, and kept as it arrives."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from concord.concepts.bank import Bank, ClassConcepts, load_bank
from concord.concepts.llm.client import Chat, Server, ask_together, hide, public_url
from concord.concepts.llm.parse import Refusal, read_answer
from concord.concepts.llm.prompts import Prompt, again
from concord.errors import ConcordError
from concord.storage.atomic import write_atomically

_MOST_OTHERS = 120  # more classes than this are not shown to the model: they would fill a small one's context
_MOST_ECHO = 4000  # characters of an unusable answer that are shown to the model again
_IN_A_ROW = 8  # so many classes without a single phrase, and no more is asked and paid
_IDENTITY = ("model", "prompt", "prompt_sha256", "about", "temperature")
Done = Callable[[str, ClassConcepts], None]
Failed = Callable[[str, str], None]


async def retrieve_bank(
    names: Sequence[str],
    prompt: Prompt,
    server: Server,
    done: Done,
    failed: Failed,
    *,
    everyone: Sequence[str] = (),
    about: str = "",
    count: int = 10,
    attempts: int = 3,
    concurrency: int = 4,
) -> None:
    """Ask a server for the phrases of classes in their order, several at a time.

    Args:
        done: called with every class as soon as it has its phrases.
        failed: called with every class that gets none, and the reason.
        everyone: all classes of the set, from which look-alikes are chosen; not used if they are very many.
        about: what kind of images these are.
        count: phrases a class.
        attempts: answers to ask for, for one class; from the second on the model is told what was wrong.
        concurrency: requests at the same time.

    Where no server is, or it refuses every request (key, model, address), or too many classes in a row got no phrase,
    that is a ConcordError; `done` was called with what came before.
    """
    waiting = iter(names)
    in_vain = 0

    async def work(chat: Chat) -> None:
        nonlocal in_vain
        for name in waiting:
            others = [other for other in everyone if other != name] if len(everyone) <= _MOST_OTHERS else []
            answer = await _one(chat, name, prompt, others, about, count, attempts)
            if isinstance(answer, ClassConcepts):
                done(name, answer)
            else:
                failed(name, answer.reason)
            in_vain = 0 if answer.phrases else in_vain + 1
            if in_vain >= _IN_A_ROW:
                raise ConcordError(f"{in_vain} classes in a row got no phrase, and no more were asked")

    async with aclosing(Chat(server)) as chat:
        await chat.knock()
        await ask_together(chat, work, min(concurrency, len(names)))


async def _one(
    chat: Chat, name: str, prompt: Prompt, others: Sequence[str], about: str, count: int, attempts: int
) -> ClassConcepts | Refusal:
    """Ask for one class until it is complete, the attempts are used up, or another one would end alike."""
    first = prompt.messages(name, count, others, about)
    messages, so_far = first, Refusal("")
    for asked in range(1, attempts + 1):
        reply = await chat.ask(messages, prompt.schema)
        answer = read_answer(reply.text, name, count, so_far, reply.trouble, f"{name} {about}")
        if isinstance(answer, ClassConcepts):
            return answer
        in_vain = reply.final and len(answer.phrases) == len(so_far.phrases)
        so_far = replace(answer, reason=f"{answer.reason}, after {asked} answers" if asked > 1 else answer.reason)
        if in_vain:
            break
        request = again(answer.reason, count - len(answer.phrases), answer.phrases)
        messages = [*first, {"role": "assistant", "content": reply.text[:_MOST_ECHO] or "-"}, request]
    return so_far


def provenance(prompt: Prompt, server: Server, about: str = "") -> dict[str, str]:
    """Say where the phrases come from, as the bank keeps it; the key is no part of it."""
    temperature = "the server's own" if server.temperature is None else f"{server.temperature:g}"
    return {
        "source": "a language model, asked by concord concepts retrieve",
        "model": server.model,
        "server": public_url(server.base_url),
        "prompt": prompt.name,
        "prompt_sha256": prompt.sha256,
        **({"about": about} if about else {}),
        "temperature": temperature,
        "date": datetime.now(UTC).date().isoformat(),
    }


class GrowingBank:
    """A bank in its file, which holds only classes that are complete, and is whole at any moment."""

    def __init__(
        self, path: Path, origin: Mapping[str, str], order: Sequence[str], secrets: frozenset[str], anew: bool = False
    ) -> None:
        """Open the bank at `path` to go on with it, or begin it; a file that is no bank is a ConcordError.

        origin: from `provenance`; a bank that was made otherwise is refused, unless `anew` forgets it. order: the
        classes as they shall stand in the file. secrets: texts that are never written.
        """
        self.path, self._order, self._secrets = path, order, secrets
        there = load_bank(str(path.resolve())) if path.exists() else None
        if there is not None and not anew:
            differ = [key for key in _IDENTITY if there.provenance.get(key, "") != origin.get(key, "")]
            if differ and there.classes:
                was = ", ".join(f'{k} "{there.provenance.get(k, "")}", now "{origin.get(k, "")}"' for k in differ)
                raise ConcordError(f"{path} was made otherwise: {was}; give another --out, or --force to begin it anew")
            self._origin, self.classes = dict(there.provenance) or dict(origin), dict(there.classes)
        else:
            self._origin, self.classes = dict(origin), {}

    def lacking(self, count: int) -> list[str]:
        """Return the classes that the bank lacks, or has with fewer than `count` phrases."""
        return [n for n in self._order if n not in self.classes or len(self.classes[n].phrases) < count]

    def add(self, name: str, concepts: ClassConcepts) -> None:
        """Put a class in and save the file."""
        # Phrase by phrase, before JSON escapes what a key may hold.
        clean = {field: tuple(hide(text, self._secrets) for text in texts) for field, texts in concepts}
        self.classes[name] = ClassConcepts.model_validate(clean)
        place = {n: i for i, n in enumerate(self._order)}
        ordered = dict(sorted(self.classes.items(), key=lambda item: place.get(item[0], len(place))))
        bank = Bank(schema=1, name=self.path.stem, provenance=self._origin, classes=ordered)
        text = json.dumps(bank.model_dump(by_alias=True), ensure_ascii=False, indent=2)
        write_atomically(self.path, (hide(text, self._secrets) + "\n").encode())
