"""From whatever a language model answers to the phrases of a class, or to the reason why not.

Its pieces are found in lists of quoted strings, whole or cut off, or line by line. Nothing here backtracks or looks
twice at a character: the time is linear in the text, whatever it is.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from concord.concepts.bank import ClassConcepts
from concord.text import plain

MOST_CHARACTERS = 127
"""The paper asks for phrases shorter than 128 characters (App. B)."""
_LONGEST_ANSWER = 100_000  # characters; ten phrases are below 1500
_MOST_LOOK_ALIKES = 5
_NUMBERING = re.compile(r"(?:[-*•·–—‣▪●+#>]+(?=\s|\w)|[(（]?\d{1,3}\s?[.):、．）](?!\d)|[①-⑳])\s*")
_AROUND = " \"'“”„‘’«»「」『』`*_"
_AT_THE_END = _AROUND + ".,;。，；、．…"
_PLACEHOLDER = re.compile(r"(?:\w+ )?(?:phrase|concept|description|feature|class|string)[ _-]?\d*", re.I)
_ALIKE = re.compile(r"alike|similar|confus", re.I)
_OF_PHRASES = re.compile(r"phrase|concept|descri|feature|attribute|detail|answer", re.I)


@dataclass(frozen=True)
class Refusal:
    """Why an answer is not enough, in words that fit a second request, and what of it can be used."""

    reason: str
    phrases: tuple[str, ...] = ()
    look_alikes: tuple[str, ...] = ()


def read_answer(
    text: str, class_name: str, wanted: int = 10, have: Refusal | None = None, cut_off: bool = False
) -> ClassConcepts | Refusal:
    """Read the phrases of a class out of any text; never raises, and takes time linear in the text.

    Understood are JSON in any wrapping (code fences, prose, tags, a string inside a string), tuples and lists as in
    Python, numbered, bulleted and plain lines, and beginnings of all these. Phrases lose numbering, quotes, a final
    full stop, "{class} with" in front, and a capital that only starts the sentence. Dropped are those of 128
    characters or more, those that name the class, and repetitions.

    Args:
        text: what the model said of the class.
        wanted: how many phrases make an entry; with fewer it is a refusal.
        have: an earlier answer's refusal, whose phrases count and come first.
        cut_off: the model was stopped; the last line, if it is no quoted string, is half a phrase then.
    """
    kept = list(have.phrases) if have else []
    spoken = _answer_part(text)
    found, alike = _found(spoken, cut_off)
    dropped = _take(found, class_name, kept)
    look_alikes = _others([*(have.look_alikes if have else ()), *alike], class_name)
    if len(kept) >= wanted:
        return ClassConcepts(phrases=tuple(kept[:wanted]), look_alikes=look_alikes)
    return Refusal(_reason(spoken, len(kept), wanted, dropped), tuple(kept), look_alikes)


def _answer_part(text: str) -> str:
    """Cut away what is not the answer: thoughts before it, tags around it, and what exceeds any sensible length."""
    for tag in ("think", "thinking"):
        if (end := text.rfind(f"</{tag}>")) >= 0:
            text = text[end + len(tag) + 3 :]
        elif (start := text.find(f"<{tag}>")) >= 0:
            text = text[:start]  # it was stopped while it still thought
    if (start := text.rfind("<answer>")) >= 0:
        text = text[start + len("<answer>") :].partition("</answer>")[0]
    text = text[:_LONGEST_ANSWER].strip()
    if text.startswith('"'):
        with suppress(ValueError):  # JSON inside a JSON string
            return str(json.loads(text))
    return text


def _found(text: str, cut_off: bool) -> tuple[list[str], list[str]]:
    """Return candidates for phrases, and look-alikes."""
    groups = quoted_groups(text)
    alike = [group for group in groups if _ALIKE.search(group.key)]
    rest = [group for group in groups if group not in alike]
    names = [name for group in alike for name in (group.strings if group.listed else split_names(group.strings[0]))]
    if phrases := [group for group in rest if _OF_PHRASES.search(group.key)]:
        return _joined(phrases), names
    lists = [group for group in rest if group.listed and len(group.strings) > 1]
    if len(lists) == 2 and not alike and len(lists[0].strings) <= 4 < len(lists[1].strings):
        names, lists = lists[0].strings, lists[1:]  # no keys at all, but in the order that was asked for
    if any(len(group.strings) > 2 for group in lists):
        return _joined(lists), names
    if not alike and len(rest) > 2 and not any(group.listed for group in rest):
        return _joined(rest), names  # an object of part: phrase
    if alike:
        return [], names
    if cut_off:
        text = text.rpartition("\n")[0]
    return listed_lines(text)


def _joined(groups: Iterable[Group]) -> list[str]:
    return [string for group in groups for string in group.strings]


def _take(found: Iterable[str], class_name: str, kept: list[str]) -> Counter[str]:
    """Add what is usable to `kept`, and count the reasons of what is not."""
    dropped: Counter[str] = Counter()
    known = {phrase.casefold() for phrase in kept}
    name = re.escape(" ".join(class_name.split()))
    prefix = re.compile(rf"(?:(?:a|an|the) )?{name}(?:'s|:|,| with| has| have| having| [-–—]) (?=\S)", re.I)
    names_it = re.compile(rf"(?<![A-Za-z0-9]){name}(?:e?s)?(?![A-Za-z0-9])", re.I)
    for text in found:
        phrase = _phrase(text, prefix if name else None)
        if not phrase:
            dropped["without words"] += 1
        elif len(phrase) > MOST_CHARACTERS:
            dropped[f"of {MOST_CHARACTERS + 1} characters or more"] += 1
        elif name and names_it.search(phrase):
            dropped["naming the class"] += 1
        elif phrase.casefold() in known:
            dropped["repeated"] += 1
        else:
            known.add(phrase.casefold())
            kept.append(phrase)
    return dropped


def _phrase(text: str, prefix: re.Pattern[str] | None) -> str:
    """Return a phrase in its final form; empty where there is none."""
    if len(text) > 8 * MOST_CHARACTERS:
        return text  # too long, whatever is stripped from it
    for _ in range(20):  # each rule can lay bare what another strips
        before = text
        text = _clean(text)
        if text.endswith((":", "：")):
            return ""
        text = prefix.sub("", text, count=1) if prefix and prefix.match(text) else text
        first = text.partition(" ")[0]
        if first[:1].isupper() and first[1:] == first[1:].lower():
            text = first.lower() + text[len(first) :]
        if text == before:
            return text if _says_something(text) else ""
    return ""


def _others(names: Iterable[str], class_name: str) -> tuple[str, ...]:
    """Return the look-alikes, each once and without the class itself."""
    found: dict[str, str] = {}
    for name in map(_clean, names):
        if name.casefold() != class_name.casefold() and len(name) <= MOST_CHARACTERS and _says_something(name):
            found.setdefault(name.casefold(), name)
    return tuple(found.values())[:_MOST_LOOK_ALIKES]


def _says_something(text: str) -> bool:
    """Whether a text is of words: at least half letters, no broken bytes, and not the answer's form repeated."""
    letters = sum(unicodedata.category(c)[0] in "LM" for c in text)
    broken = any(c == "\ufffd" or unicodedata.category(c) in ("Cn", "Co") for c in text)
    return letters > 1 and 2 * letters >= len(text.replace(" ", "")) and not broken and not _PLACEHOLDER.fullmatch(text)


def _clean(text: str) -> str:
    """Return one line without control characters, numbering, quotes and a final full stop."""
    if len(text) > 8 * MOST_CHARACTERS:
        return text
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text if c not in "\u200b\ufeff")
    line = unicodedata.normalize("NFC", "".join(c for c in kept if unicodedata.category(c) != "Cs"))
    line = " ".join(line.split()).lstrip(_AROUND).rstrip(_AT_THE_END)
    return _NUMBERING.sub("", line, count=1) if _NUMBERING.match(line) else line


def _reason(text: str, usable: int, wanted: int, dropped: Counter[str]) -> str:
    if not text:
        return "the answer is empty"
    if not usable and not dropped:
        shown = plain(text[:200])
        return f'there are no phrases in the answer "{shown[:60]}{"..." if len(shown) > 60 else ""}"'
    why = f" ({', '.join(f'{n} {what}' for what, n in dropped.items())})" if dropped else ""
    return f"it gives {usable} of {wanted} usable phrases{why}"


_PAIRS = (("“", "”"), ("„", "“"), ("«", "»"), ("「", "」"), ("『", "』"))

# A string that never closes is matched too, up to the end of its line, so that nothing is scanned again.
_DOUBLE = r'"(?P<text>(?:[^"\\\n]|\\.)*)(?P<end>"?)'
_OTHERS = "|".join(f"{a}(?P<t{i}>[^{b}\n]*)(?P<e{i}>{b}?)" for i, (a, b) in enumerate(_PAIRS))
_TOKEN = re.compile(rf"{_DOUBLE}|{_OTHERS}|(?P<mark>[\[\](){{}}:,'])|(?P<word>[^\W\d][\w-]*)")

# An apostrophe inside a word, or one that no list goes on after, is no end.
_SINGLE = re.compile(r"'(?P<text>(?:[^'\\\n]|\\.|'(?![ \t]*(?:[\])},:\n]|\Z)))*)(?P<end>'?)")
_ITEM = re.compile(r"\s*(?:[-*•·–—‣▪●+]+\s|[(（]?\d{1,3}\s?[.):、．）](?!\d)|[①-⑳])\s*(?P<text>.+)")
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
        elif kind == "mark" and value not in ":'":
            if value in "[({":
                open_.append((key or (open_[-1][0] if open_ else ""), value != "{", {}))
            elif value != ",":
                del open_[-1:]
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
        if kind := next((kind for kind in ("word", "mark") if parts.get(kind)), None):
            yield kind, found
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


def _phrases_alone(lines: list[str]) -> list[str]:
    """Return lines without any mark if most of them can be phrases: short and no sentences."""
    short = [
        line
        for line in lines
        if line[-1] not in ".!?:。！？："
        and len(line.split()) <= 20
        and (" " in line or not line.isascii())
        and not set("<>{}|=\\") & set(line)
    ]
    return short if 2 * len(short) > len(lines) else []
