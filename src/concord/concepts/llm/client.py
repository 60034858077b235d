"""Talking to one server that speaks the OpenAI chat protocol, with patience and without giving away its key."""

import asyncio
import math
import os
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from concord.concepts.llm.prompts import Message
from concord.errors import ConcordError
from concord.text import plain

OPENAI = "https://api.openai.com/v1"
_SHORTEST = 6  # characters of a secret: "none" or "EMPTY", as servers without keys are given, are words
_BEARER = re.compile(r"(Bearer|Basic)\s+[^\s\"'<>]+", re.I)
_LIKE_A_KEY = re.compile(r"\b[sp]k-[A-Za-z0-9_*-]{8,}")
_LONGEST_REST = 120.0  # seconds; the client waits no longer between two tries
_LONGEST_SAID = 2_000_000  # characters of one streamed answer
_FORMATS = ("json_schema", "json_object", "")
_OF_FORMATS = re.compile(r"response_format|json_schema|json_object|grammar|guided_json|structured output", re.I)
_OF_STREAMS = re.compile(r"\bstream", re.I)
_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Server:
    """Where and whom to ask, and with how much patience.

    base_url: up to and without ``/chat/completions``. key: empty for servers without keys. temperature, max_tokens (of
    an answer with its thoughts): None leaves them to the server. timeout: seconds for one answer. retries: after the
    first try, of what may pass (429, 5xx, time-outs, lost connections), by the client library.
    """

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    temperature: float | None = None
    stream: bool = True
    timeout: float = 180.0
    retries: int = 5
    max_tokens: int | None = None

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
        """The texts that may appear nowhere: the key, and what the address carries as user, password or query."""
        parts = urlsplit(self.base_url)
        user, password = parts.username or "", parts.password or ""
        # A client sends user and password as this header, in place of the key.
        basic = b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode() if user or password else ""
        every = [user, password, unquote(user), unquote(password), *(value for _, value in parse_qsl(parts.query))]
        return frozenset(text for text in (self.key, basic, *every) if len(text) >= _SHORTEST)

    @property
    def is_local(self) -> bool:
        """Whether it is this machine, to which no proxy leads."""
        host = urlsplit(self.base_url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")


@dataclass(frozen=True)
class Reply:
    """What a model said. `trouble`: why that is not all, and what to do; `final`: asked alike, it would be again."""

    text: str
    trouble: str = ""
    final: bool = False


class Chat:
    """A server in use, until `aclose`. What it turns out not to offer is remembered and no longer asked for."""

    def __init__(self, server: Server) -> None:
        """Prepare to ask; a missing client library, or a variable that is of no use to it, is a ConcordError."""
        try:
            import json_repair  # noqa: F401 - what its answers are read with
            import openai
        except ImportError:
            needs = "asking a language model needs openai and json-repair: pip install 'concord-distill[llm]'"
            raise ConcordError(needs) from None
        self._openai, self.server = openai, server
        try:
            http = openai.DefaultAsyncHttpxClient(trust_env=not server.is_local)
        except (ImportError, ValueError, OSError) as error:
            socks = "; for SOCKS: pip install socksio" if isinstance(error, ImportError) else ""
            raise ConcordError(f"no connection can be made{self._variables()}{self._told(error)}{socks}") from None
        self._client = openai.AsyncOpenAI(
            base_url=server.base_url,
            api_key=server.key or "none",  # the client insists on one; servers without keys do not look at it
            max_retries=server.retries,
            timeout=server.timeout,
            http_client=http,
        )
        self._format, self._stream, self._limit = 0, server.stream, "max_tokens"
        self._logprobs = True

    async def aclose(self) -> None:
        await self._client.close()

    async def knock(self) -> None:
        """Raise a ConcordError if no server is there; the request costs nothing."""
        client = self._client.with_options(max_retries=0, timeout=min(10, self.server.timeout))
        try:
            await client.models.with_raw_response.list()
        except self._openai.OpenAIError as error:  # of a status: it does not list its models, but it is there
            if re.search("Connect|Proxy", type(cause := error.__cause__).__name__):
                address = public_url(self.server.base_url)
                raise ConcordError(f"no server answers at {address}{self._told(cause)}{self._variables()}") from None

    async def ask(self, messages: list[Message], schema: dict[str, Any]) -> Reply:
        """Return the model's answer; what fails for all patience is an empty one, with its reason.

        A wrong key, model or address, with which no request can succeed, is a ConcordError.
        """
        openai, server = self._openai, self.server
        while True:
            options = self._format, self._stream, self._limit
            try:
                async with asyncio.timeout((server.retries + 1) * (server.timeout + _LONGEST_REST)):
                    reply = await self._send(messages, schema, *options)
                if reply is not None:
                    return reply
                self._stream = False
            except openai.APIStatusError as error:
                if not self._can_do_without(error, *options):
                    return Reply("", self._failure(error), True)
            except (openai.APITimeoutError, TimeoutError):
                return Reply("", f"no answer within {server.timeout:g} s (--timeout)", True)
            except openai.APIConnectionError as error:
                return Reply("", f"the connection fails{self._told(error.__cause__)}{self._variables()}", True)
            except openai.OpenAIError as error:
                return Reply("", f"the server breaks off{self._told(error)}")
            except ValueError as error:  # a body, or an event of a stream, that is no JSON
                return Reply("", f"the answer is not of the chat protocol{self._told(error)}")

    async def yes(self, question: str, image_url: str) -> float:
        """Return how surely a vision-language model answers yes to a question about an image, in [0, 1].

        image_url: a ``data:`` URL. By its first word's probabilities where the server tells them, else by the word.
        Raises ConcordError: no answer, or neither yes nor no.
        """
        openai, server = self._openai, self.server
        parts = [{"type": "image_url", "image_url": {"url": image_url}}, {"type": "text", "text": question}]
        asked: dict[str, Any] = {"model": server.model, "messages": [{"role": "user", "content": parts}]}
        try:
            while True:
                told: dict[str, Any] = {"logprobs": True, "top_logprobs": 10} if self._logprobs else {}
                try:
                    answer: Any = await self._client.chat.completions.create(
                        **asked, temperature=0, max_tokens=5, **told
                    )
                    break
                except openai.APIStatusError as error:
                    if not told or "logprobs" not in f"{error.message} {error.body}":
                        raise ConcordError(self._failure(error)) from None
                    self._logprobs = False
        except openai.OpenAIError as error:
            cause = error.__cause__ or error
            raise ConcordError(f"the judge gives no answer{self._told(cause)}{self._variables()}") from None
        choice = next(iter(getattr(answer, "choices", None) or ()), None)
        first = next(iter(getattr(getattr(choice, "logprobs", None), "content", None) or ()), None)
        shares = dict.fromkeys(("yes", "no"), 0.0)
        for token in getattr(first, "top_logprobs", None) or ():
            word = token.token.strip().strip('"*.').lower()
            if word in shares:
                shares[word] += math.exp(token.logprob)
        if total := sum(shares.values()):
            return shares["yes"] / total
        said = str(getattr(getattr(choice, "message", None), "content", None) or "")
        if (word := re.match(r"\W*(yes|no)\b", said, re.I)) is None:
            raise ConcordError(f"the judge answers neither yes nor no{self._told(said) or ': nothing'}")
        return float(word[1].lower() == "yes")

    async def _send(
        self, messages: list[Message], schema: dict[str, Any], form: int, stream: bool, limit: str
    ) -> Reply | None:
        """Send one request; None where a stream was asked for and none came."""
        named = {"json_schema": {"name": "concepts", "strict": True, "schema": schema}}
        wanted: dict[str, Any] = {
            **{"model": self.server.model, "messages": messages, "stream": stream},
            "temperature": self.server.temperature,
            limit: self.server.max_tokens,
            "response_format": {"type": _FORMATS[form], **(named if form == 0 else {})} if _FORMATS[form] else None,
        }
        chosen = {name: value for name, value in wanted.items() if value is not None}
        answer: Any = await self._client.chat.completions.create(**chosen)
        said = _Said()
        if not stream:
            said.add(answer, "message")
            return self._reply(said, "")
        trouble, events = "the connection broke off", 0
        try:
            async with asyncio.timeout(self.server.timeout), answer:
                async for event in answer:
                    said.add(event, "delta")
                    events += 1
                    if len(said.text) > _LONGEST_SAID:
                        break
        except TimeoutError:
            trouble = f"it took longer than {self.server.timeout:g} s (--timeout)"
        except self._openai.APIConnectionError:
            events += 1
        return self._reply(said, "" if said.end else trouble) if events else None

    def _reply(self, said: "_Said", trouble: str) -> Reply:
        """Return what came, with the server's own reason where that is not an answer."""
        text, final = hide(said.text, self.server.secrets), True
        nothing = said.thoughts and not text.strip()
        if said.end == "content_filter":
            trouble = "the server's content filter stopped it; word --about otherwise, or ask another model"
        elif said.end == "length":
            thought = " while the model still thought" if nothing else ""
            trouble = f"it was cut off at its limit of tokens{thought}: raise --max-tokens"
        elif nothing:
            trouble = (
                "all of it came as reasoning, none as an answer: turn off thinking, or the server's reasoning parser"
            )
        else:
            final = False
        return Reply(text, f"the model refuses{self._told(said.refusal)}" if said.refusal else trouble, final)

    def _can_do_without(self, error: Any, form: int, stream: bool, limit: str) -> bool:
        """Say whether the server only refuses a form of request, and leave it out from now on."""
        about = f"{error.message} {error.body}"
        if error.status_code not in (400, 404, 415, 422, 500, 501):
            return False
        if _FORMATS[form] and _OF_FORMATS.search(about):
            self._format = max(self._format, form + 1)
        elif stream and _OF_STREAMS.search(about):
            self._stream = False
        elif limit == "max_tokens" and self.server.max_tokens and "max_completion_tokens" in about:
            self._limit = "max_completion_tokens"
        else:
            return False
        return True

    def _failure(self, error: Any) -> str:
        """Say what a status that is no success means; what every request would get is a ConcordError."""
        status, body = error.status_code, error.body
        said = body.get("message") or body.get("detail") or body.get("error") if isinstance(body, dict) else body
        reason = f"the server says {status}{self._told(said)}"
        if status in (404, 405):
            address = public_url(self.server.base_url)
            raise ConcordError(f"{reason}; check the model {self.server.model} and the address {address}")
        if status == 401 or error.code == "insufficient_quota":
            wrong = "check the key in the environment" if status == 401 else "the account has no quota left"
            raise ConcordError(f"{reason}; {wrong}")
        rest = plain(error.response.headers.get("retry-after", ""))[:40]
        return f"{reason}, and wants {rest} s of rest: ask again later" if rest else reason

    def _told(self, said: object) -> str:
        """Return the beginning of what a server said, after a colon; what is secret goes before anything is cut."""
        text = scrub(plain(str(said or "")), self.server.secrets)
        return f": {text[:200]}{'...' if len(text) > 200 else ''}" if text else ""

    def _variables(self) -> str:
        """Name what in the environment leads a connection elsewhere, or decides whom it trusts."""
        names = (form for name in _VARIABLES for form in (name, name.lower()))
        found = [f"{name}={value.rpartition('@')[2]}" for name in names if (value := os.environ.get(name))]
        through = f" with {' and '.join(found)} in the environment (unset it, or name the host in NO_PROXY)"
        return through if found and not self.server.is_local else ""


@dataclass
class _Said:
    """A completion, or the pieces of one so far."""

    text: str = ""
    thoughts: bool = False
    refusal: str = ""
    end: str | None = None

    def add(self, answer: Any, part: str) -> None:
        """Add a completion's `message`, or the `delta` of a piece; what is none of the protocol is a ValueError."""
        if error := getattr(answer, "error", None):
            raise ValueError(str(error.get("message") if isinstance(error, dict) else error))
        if not isinstance(getattr(answer, "choices", None), list):
            raise ValueError
        choice = next(iter(answer.choices), None)
        piece = getattr(choice, part, None)
        content = getattr(piece, "content", None)
        if isinstance(content, list):  # parts, as some servers send them
            content = "".join(str(one.get("text", "")) for one in content if isinstance(one, dict))
        self.text += content if isinstance(content, str) else ""
        self.thoughts |= any(getattr(piece, name, None) for name in ("reasoning_content", "reasoning", "thinking"))
        self.refusal += str(getattr(piece, "refusal", None) or "")
        end = getattr(choice, "finish_reason", None)
        self.end = end if isinstance(end, str) else self.end


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


async def ask_together(chat: Chat, work: Callable[[Chat], Awaitable[None]], count: int) -> None:
    """Let `count` workers ask one server at the same time; the first error of any ends all."""
    workers = [asyncio.ensure_future(work(chat)) for _ in range(count)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
