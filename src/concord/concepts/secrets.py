"""Keeping the key to a server out of everything that is written or shown."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

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
