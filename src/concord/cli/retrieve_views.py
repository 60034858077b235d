"""`concord concepts retrieve`: settings from flags and environment, progress on the terminal, and the outcome."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from concord.cli.console import Console
from concord.cli.progress import Asking
from concord.concepts.bank import ClassConcepts
from concord.concepts.llm.class_names import class_names
from concord.concepts.llm.client import OPENAI, Server
from concord.concepts.llm.prompts import Prompt
from concord.concepts.llm.retrieve import GrowingBank, provenance, retrieve_bank
from concord.errors import ConcordError
from concord.text import counted


def find_server(
    base_url: str | None, model: str | None, key_env: str | None, environment: Mapping[str, str] = os.environ
) -> tuple[str, str, str]:
    """Return (address, model, key) from flags, else the environment; a ConcordError where it lacks one it needs."""
    address = base_url or environment.get("OPENAI_BASE_URL") or OPENAI
    wanted = model or environment.get("OPENAI_MODEL")
    key = environment.get(key_env or "OPENAI_API_KEY", "").strip()
    if not wanted:
        raise ConcordError("which model to ask is not said: give --model NAME, or set OPENAI_MODEL")
    if key_env and not key:
        raise ConcordError(f"the environment variable {key_env} (--key-env) is not set")
    if not key and address == OPENAI:
        raise ConcordError(
            f"{OPENAI} needs a key: set OPENAI_API_KEY, or give --base-url of a server that needs none"
            " (http://localhost:11434/v1 for Ollama)"
        )
    return address, wanted, key


def run(
    source: str,
    path: Path,
    prompt: Prompt,
    server: Server,
    about: str,
    count: int,
    anew: bool,
    quiet: bool,
    **limits: int,
) -> None:
    """Fill a bank (`limits` go to `retrieve_bank`); a ConcordError names every class that it lacks, and why."""
    progress = Asking(Console(), quiet)
    names = class_names(source, progress.note)
    if not path.parent.is_dir():
        raise ConcordError(f"there is no folder {path.parent} to write {path.name} into")
    bank = GrowingBank(path, provenance(prompt, server, about), names, server.secrets, anew)
    asked = bank.lacking(count)
    reasons: dict[str, str] = {}
    progress.begin(len(names), len(names) - len(asked))
    with progress:

        def done(name: str, concepts: ClassConcepts) -> None:
            bank.add(name, concepts)
            progress.advance(1, [{"name": name}])

        def failed(name: str, reason: str) -> None:
            reasons[name] = reason
            progress.advance(1, [{"name": name, "trouble": reason}])

        ended = ""
        if asked:
            settings: dict[str, Any] = {"everyone": names, "about": about, "count": count, **limits}
            try:
                asyncio.run(retrieve_bank(asked, prompt, server, done, failed, **settings))
            except ConcordError as error:
                ended = str(error)
    missing = bank.lacking(count)
    if missing or ended:
        raise ConcordError(_lacking(missing, reasons, ended, len(names), path))
    progress.say(Text(f"done  {path}: {len(names)} classes with {count} phrases each", "bold green"))


def _lacking(missing: list[str], reasons: Mapping[str, str], ended: str, total: int, path: Path) -> str:
    if ended and not reasons and len(missing) == total:
        return ended
    each = ", ".join(f'"{name}" ({reasons[name]})' for name in missing if name in reasons)
    unasked = sum(name not in reasons for name in missing)
    each += f"; {counted(unasked, 'class')} not asked" if unasked else ""
    there = f"{path} holds the other {total - len(missing)}" if len(missing) < total else f"nothing is in {path}"
    stopped = f"{ended}; " if ended else ""
    lack = f"{len(missing)} of {total} classes lack phrases"
    return f"{stopped}{lack}: {each}; {there}, and the same command asks again for what is missing"
