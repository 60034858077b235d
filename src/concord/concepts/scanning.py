"""Finding the pieces of a language model's answer: in lists of quoted strings, whole or cut off, or line by line.

Nothing here backtracks or looks twice at a character: the time is linear in the text, whatever it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_PAIRS = (("“", "”"), ("„", "“"), ("«", "»"), ("「", "」"), ("『", "』"))
# A string that never closes is matched too, up to the end of its line, so that nothing is scanned again.
_DOUBLE = r'"(?P<text>(?:[^"\\\n]|\\.)*)(?P<end>"?)'
_OTHERS = "|".join(f"{a}(?P<t{i}>[^{b}\n]*)(?P<e{i}>{b}?)" for i, (a, b) in enumerate(_PAIRS))
_TOKEN = re.compile(rf"{_DOUBLE}|{_OTHERS}|(?P<mark>[\[\](){{}}:,'])|(?P<word>[^\W\d][\w-]*)")
# An apostrophe inside a word, or one that no list goes on after, is no end.
_SINGLE = re.compile(r"'(?P<text>(?:[^'\\\n]|\\.|'(?![ \t]*(?:[\])},:\n]|\Z)))*)(?P<end>'?)")

_ITEM = re.compile(r"\s*(?:[-*•·–—‣▪●+]+\s|[(（]?\d{1,3}\s?[.):、．）](?!\d)|[①-⑳])\s*(?P<text>.+)")
_ALIKE = re.compile(r"alike|similar|confus", re.I)
_ALIKE_LINE = re.compile(r"[^:：]{0,60}(?:alike|similar|confus)[^:：]{0,60}[:：](?P<names>.+)", re.I)
_LONGEST_LINE = 500


@dataclass
class Group:
    """Strings that stand together: of one list, or of one key of an object. `listed`: they are items, not values."""

    key: str
    listed: bool
    strings: list[str] = field(default_factory=list)


def quoted_groups(text: str) -> list[Group]:
    """Return the quoted strings inside brackets by the list or key that they belong to, in the text's order.

    JSON, Python and what looks like either are read alike, and a cut-off end costs no more than its last string.
    """
    groups: list[Group] = []
    open_: list[tuple[str, bool, dict[str, Group]]] = []  # (key, is a list, groups by key) of every open bracket
    key = ""
    tokens = list(_tokens(text))
    for i, (kind, value) in enumerate(tokens):
        followed_by_colon = i + 1 < len(tokens) and tokens[i + 1] == ("mark", ":")
        if kind in ("string", "word") and followed_by_colon:
            key = "" if value.strip().isdigit() else value.casefold()
        elif kind == "string" and open_:
            outer, is_list, by_key = open_[-1]
            name = key or outer
            if name not in by_key:
                by_key[name] = Group(name, is_list or not key)
                groups.append(by_key[name])
            by_key[name].strings.append(value)
        elif kind == "mark" and value in "[({":
            open_.append((key or (open_[-1][0] if open_ else ""), value != "{", {}))
            key = ""
        elif kind == "mark" and value in "])}":
            del open_[-1:]
            key = ""
        elif kind == "mark" and value == ",":
            key = ""
    return groups


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield ("string" | "mark" | "word", its text); strings without an end are left out."""
    position, after = 0, ""
    while match := _TOKEN.search(text, position):
        gap, found = text[position : match.start()], match[0]
        # An apostrophe opens a string only where a string may begin.
        if found == "'":
            if not (after and not gap.strip()):
                position, after = match.end(), ""
                continue
            match = _SINGLE.match(text, match.start()) or match
        position = match.end()
        parts = match.groupdict()
        after = found if found in "[({,:" else ""
        if parts.get("word"):
            yield "word", found
        elif parts.get("mark"):
            yield "mark", found
        else:
            body, closed = next(((parts[t], parts[e]) for t, e in _STRING_PARTS if parts.get(t) is not None), ("", ""))
            if closed:
                yield "string", _unescaped(body or "")


_STRING_PARTS = [("text", "end"), *((f"t{i}", f"e{i}") for i in range(len(_PAIRS)))]


def _unescaped(body: str) -> str:
    if "\\" not in body:
        return body
    try:
        return str(json.loads(f'"{body}"', strict=False))
    except ValueError:
        return re.sub(r"\\(.)", r"\1", body)


def listed_lines(text: str) -> tuple[list[str], list[str]]:
    """Return (items, look-alikes) of an answer without brackets: numbered or bulleted lines, else plain short ones.

    A heading that speaks of look-alikes starts their list, any other heading the items'; ``Look-alikes: a, b`` in one
    line is understood as well.
    """
    items: list[str] = []
    plain: list[str] = []
    alike: list[str] = []
    among_alike = False
    for line in text.splitlines():
        bare = line.replace("**", "").replace("`", "").strip()
        if not bare or len(bare) > _LONGEST_LINE:
            continue
        item = _ITEM.match(bare)
        if named := _ALIKE_LINE.match(bare):
            alike += split_names(named["names"])
        elif bare.endswith((":", "：")) or line.lstrip().startswith("#"):
            among_alike = bool(_ALIKE.search(bare))
        elif item:
            (alike if among_alike else items).append(item["text"])
        else:
            plain.append(bare)
            among_alike = among_alike and not items
    return items or _phrases_alone(plain), alike


def split_names(text: str) -> list[str]:
    """Split ``a, b and c`` into its names."""
    return [name for part in re.split(r"[,;，；、]", text) for name in part.split(" and ") if name.strip()]


def _phrases_alone(lines: Iterable[str]) -> list[str]:
    """Return lines without any mark if most of them can be phrases: short and no sentences."""
    lines = list(lines)
    short = [
        line
        for line in lines
        if line[-1] not in ".!?:。！？："
        and len(line.split()) <= 20
        and (" " in line or not line.isascii())
        and not set("<>{}|=\\") & set(line)
    ]
    return short if 2 * len(short) > len(lines) else []
