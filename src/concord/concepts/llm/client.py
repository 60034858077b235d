"""Talking to one server that speaks the OpenAI chat protocol, with patience and without giving away its key."""

import asyncio
import random
import re
import time
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from concord.concepts.llm.prompts import Message
from concord.errors import ConcordError
from concord.text import plain

OPENAI = "https://api.openai.com/v1"
_NO_KEY = "none"  # the client insists on one; servers without keys do not look at it
_LONGEST_WAIT = 60.0
_LONGEST_RETRY_AFTER = 600.0
_LONGEST_SAID = 2_000_000  # characters of one streamed answer
_FORMATS = ("json_schema", "json_object", "")
_OF_FORMATS = re.compile(r"response_format|json_schema|json_object|grammar|guided_json|structured output", re.I)
_OF_STREAMS = re.compile(r"\bstream", re.I)


@dataclass(frozen=True)
class Server:
    """Where and whom to ask, and with how much patience.

    base_url: up to and without ``/chat/completions``. key: empty for servers without keys. temperature: None leaves it
    to the server. timeout: seconds for one answer. retries: after the first try, of what may pass (429, 5xx,
    time-outs, lost connections). backoff: seconds before the first retry, doubled for each further one.
    """

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    temperature: float | None = None
    stream: bool = True
    timeout: float = 180.0
    retries: int = 5
    backoff: float = 1.0

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")) or public_url(self.base_url).endswith("://"):
            raise ConcordError(
                f"the server's address {scrub(self.base_url, self.secrets)} is no URL; expected one like"
                " http://localhost:8000/v1 (--base-url or OPENAI_BASE_URL)"
            )
        if not (self.key.isascii() and self.key.isprintable()):
            raise ConcordError("the key in the environment has characters that no request can carry; copy it again")

    @property
    def secrets(self) -> frozenset[str]:
        """The texts that may appear nowhere."""
        return secrets_of(self.key, self.base_url)


@dataclass(frozen=True)
class Reply:
    """What a model said; `cut_off` where it was stopped before its end."""

    text: str
    cut_off: bool


class Unanswered(Exception):
    """A request that brought no answer for all patience; says why, without secrets."""


class _Passing(Exception):
    """A failure that may pass, in the server's own words, and after how many seconds it wants to be asked again."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Chat:
    """A server in use, until `aclose`. What it turns out not to offer is remembered and no longer asked for."""

    def __init__(self, server: Server) -> None:
        try:
            import openai
        except ImportError:
            needs = "asking a language model needs the package openai: pip install 'concord-distill[llm]'"
            raise ConcordError(needs) from None
        self._openai, self.server = openai, server
        self._client = openai.AsyncOpenAI(
            base_url=server.base_url, api_key=server.key or _NO_KEY, max_retries=0, timeout=server.timeout
        )
        self._format, self._stream = 0, server.stream

    async def aclose(self) -> None:
        await self._client.close()

    async def ask(self, messages: list[Message], schema: dict[str, Any]) -> Reply:
        """Return the model's answer.

        Raises:
            Unanswered: this request fails, but another one may not.
            ConcordError: no request to this server can succeed: a wrong key, model or address.
        """
        tries = 0
        while True:
            try:
                return await self._once(messages, schema)
            except _Passing as error:
                tries, reason = tries + 1, str(error)
                if tries > self.server.retries:
                    raise Unanswered(f"{reason}, {tries} {'try' if tries == 1 else 'tries'}") from None
                if error.after is not None and error.after > _LONGEST_RETRY_AFTER:
                    raise Unanswered(f"{reason}, and wants {error.after:.0f} s of rest: ask again later") from None
                wait = min(self.server.backoff * 2 ** (tries - 1), _LONGEST_WAIT) * random.uniform(0.75, 1)
                await asyncio.sleep(max(wait, error.after or 0))

    async def _once(self, messages: list[Message], schema: dict[str, Any]) -> Reply:
        openai = self._openai
        while True:
            form, stream = self._format, self._stream
            try:
                async with asyncio.timeout(self.server.timeout):
                    reply = await self._send(messages, schema, _FORMATS[form], stream)
                if reply is not None:
                    return reply
                self._stream = False
            except (openai.APITimeoutError, TimeoutError):
                raise _Passing(f"no answer within {self.server.timeout:g} s") from None
            except openai.APIStatusError as error:
                if not self._can_do_without(error, form, stream):
                    raise self._refusal(error) from None
            except openai.APIConnectionError as error:
                raise _Passing(f"the connection fails{self._told(error.__cause__)}") from None
            except openai.OpenAIError as error:
                raise _Passing(f"the server breaks off{self._told(error)}") from None
            except ValueError:  # a body, or an event of a stream, that is no JSON
                raise _Passing("the answer is not of the chat protocol") from None

    async def _send(self, messages: list[Message], schema: dict[str, Any], form: str, stream: bool) -> Reply | None:
        """Send one request; None where a stream was asked for and none came."""
        wanted: dict[str, Any] = {"model": self.server.model, "messages": messages}
        if self.server.temperature is not None:
            wanted["temperature"] = self.server.temperature
        if form:
            named = {"json_schema": {"name": "concepts", "strict": True, "schema": schema}}
            wanted["response_format"] = {"type": form, **(named if form == "json_schema" else {})}
        answer: Any = await self._client.chat.completions.create(**wanted, stream=stream)
        if not stream:
            self._check(answer)
            text, end = _said(answer, "message")
            return Reply(hide(text, self.server.secrets), end == "length")
        text, end, events = "", None, 0
        async with answer:
            async for event in answer:
                self._check(event)
                events += 1
                piece, stopped = _said(event, "delta")
                text += piece
                end = stopped or end
                if len(text) > _LONGEST_SAID:
                    break
        return Reply(hide(text, self.server.secrets), end in (None, "length")) if events else None

    def _can_do_without(self, error: Any, form: int, stream: bool) -> bool:
        """Say whether the server only refuses a form of answer, and leave it out from now on."""
        about = f"{error.message} {error.body}"
        if error.status_code not in (400, 404, 415, 422, 500, 501):
            return False
        if _FORMATS[form] and _OF_FORMATS.search(about):
            self._format = max(self._format, form + 1)
        elif stream and _OF_STREAMS.search(about):
            self._stream = False
        else:
            return False
        return True

    def _refusal(self, error: Any) -> Exception:
        """Return what a status that is no success means: wait, go on to the next class, or stop."""
        status, body = error.status_code, error.body
        said = body.get("message") or body.get("detail") or body.get("error") if isinstance(body, dict) else body
        reason = f"the server says {status}{self._told(said)}"
        if status == 401:
            return ConcordError(f"{reason}; check the key in the environment")
        if status in (404, 405):
            address = public_url(self.server.base_url)
            return ConcordError(f"{reason}; check the model {self.server.model} and the address {address}")
        if error.code == "insufficient_quota":
            return ConcordError(f"{reason}; the account has no quota left")
        if status in (408, 409, 425, 429) or status >= 500:
            return _Passing(reason, _retry_after(error.response.headers.get("retry-after")))
        return Unanswered(reason)

    def _check(self, answer: Any) -> None:
        """Raise on a body that came with a status of success and is none."""
        if error := getattr(answer, "error", None):
            said = error.get("message") if isinstance(error, dict) else error
            raise _Passing(f"the server reports an error{self._told(said)}")
        if not isinstance(getattr(answer, "choices", None), list):
            raise ValueError

    def _told(self, said: object) -> str:
        """Return the beginning of what a server said, after a colon; what is secret goes before anything is cut."""
        text = scrub(plain(str(said or "")), self.server.secrets)
        return f": {text[:200]}{'...' if len(text) > 200 else ''}" if text else ""


def _said(answer: Any, part: str) -> tuple[str, str | None]:
    """Return the text of a completion or of a piece of one, and why it ended; takes any object."""
    choice = next(iter(answer.choices), None)
    content = getattr(getattr(choice, part, None), "content", None)
    if isinstance(content, list):  # parts, as some servers send them
        content = "".join(str(piece.get("text", "")) for piece in content if isinstance(piece, dict))
    end = getattr(choice, "finish_reason", None)
    return content if isinstance(content, str) else "", end if isinstance(end, str) else None


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number or a date; None where it says nothing."""
    if not value:
        return None
    for read in (float, lambda date: parsedate_to_datetime(date).timestamp() - time.time()):
        with suppress(ValueError):
            return seconds if (seconds := read(value)) > 0 else None  # NaN is not greater
    return None


_BEARER = re.compile(r"(Bearer|Basic)\s+[^\s\"'<>]+", re.I)
_LIKE_A_KEY = re.compile(r"\b[sp]k-[A-Za-z0-9_*-]{8,}")
_SHORTEST = 6
"""Servers without keys are often given "none" or "EMPTY": those are words, and no secrets."""


def secrets_of(key: str, base_url: str) -> frozenset[str]:
    """Return the texts that nobody may see: the key, and what the address carries as user, password or query."""
    parts = urlsplit(base_url)
    user, password = parts.username or "", parts.password or ""
    # A client sends user and password as this header, in place of the key.
    basic = b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode() if user or password else ""
    values = [value for _, value in parse_qsl(parts.query)]
    every = {key, basic, user, password, unquote(user), unquote(password), *values}
    return frozenset(text for text in every if len(text) >= _SHORTEST)


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every secret written as ``***``."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = re.sub(re.escape(secret), "***", text, flags=re.I)
    return text


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return a message with every secret, and whatever else looks like a key, written as ``***``."""
    return _LIKE_A_KEY.sub("***", _BEARER.sub(r"\1 ***", hide(text, secrets)))


def public_url(base_url: str) -> str:
    """Return an address without user, password, query and fragment, as it may be written into a file."""
    parts = urlsplit(base_url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
