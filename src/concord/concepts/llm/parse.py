"""From whatever a language model answers to the phrases of a class, or to the reason why not.

What it thought is cut away. What is left may hold several answers, in JSON (mended where it is not quite), in a list or
in a table: the last one that is complete counts.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from concord.concepts.bank import ClassConcepts
from concord.concepts.words import foreign, refuses
from concord.text import plain

MOST_CHARACTERS = 127
"""The paper asks for phrases shorter than 128 characters (App. B)."""
_LONGEST_ANSWER = 100_000  # characters; ten phrases are below 1500
_LONGEST_MENDED, _MOST_MARKS = 20_000, 1000  # characters, and quotes or brackets: mending is quadratic in these
_MOST_LOOK_ALIKES = 5
_NUMBERING = re.compile(r"(?:[-*•·–—‣▪●+#>✓✔✅→]+(?=\s|\w)|[(（]?\d{1,3}\s?[.):、．）](?!\d)|[①-⑳])\s*")
_AROUND = " \"'“”„‘’«»「」『』`*_"
_AT_THE_END = _AROUND + ".,;。，；、．…"
_PLACEHOLDER = re.compile(r"(?:\w+ )?(?:phrase|concept|description|feature|class|string)[ _-]?\d*", re.I)
_ALIKE = re.compile(r"alike|similar|confus", re.I)
_OF_PHRASES = re.compile(r"phrase|concept|descri|feature|attribute|detail|answer|text", re.I)


@dataclass(frozen=True)
class Refusal:
    """Why an answer is not enough, in words that fit a second request, and what of it can be used."""

    reason: str
    phrases: tuple[str, ...] = ()
    look_alikes: tuple[str, ...] = ()


def read_answer(
    text: str,
    class_name: str,
    wanted: int = 10,
    have: Refusal | None = None,
    trouble: str = "",
    asked: str | None = None,
) -> ClassConcepts | Refusal:
    """Read the phrases of a class out of any text; never raises.

    Understood are JSON and Python in any wrapping (code fences, prose, tags, a string inside a string), numbered,
    bulleted and plain lines, tables, and beginnings of all these. Phrases lose numbering, quotes, a final full stop,
    "{class} with" in front, and a capital that only starts the sentence. Dropped are those of 128 characters or more,
    those that name the class, refuse or are in another language than asked, and repetitions.

    Args:
        text: what the model said of the class.
        wanted: how many phrases make an entry; with fewer it is a refusal.
        have: an earlier answer's refusal, whose phrases count and come first.
        trouble: why the model was stopped, if it was; a last phrase without an end is half a one then.
        asked: a text in the language that was asked for; None: any will do.
    """
    before = have.phrases if have else ()
    spoken = _spoken(text)
    read = [(*_take(found, class_name, before, asked), alike) for found, alike in _candidates(spoken, bool(trouble))]
    kept, dropped, alike = max(reversed(read), key=lambda one: min(len(one[0]), wanted))
    look_alikes = _others([*(have.look_alikes if have else ()), *alike], class_name)
    if len(kept) >= wanted:
        return ClassConcepts(phrases=tuple(kept[:wanted]), look_alikes=look_alikes)
    reason = trouble if trouble and not spoken else _reason(spoken, len(kept), wanted, dropped)
    return Refusal(", ".join(dict.fromkeys(filter(None, (reason, trouble)))), tuple(kept), look_alikes)


_THOUGHT = r"think(?:ing)?|thoughts?|reason(?:ing)?|analysis|reflection|scratch_?pad|inner_?monologue|cot"
_THOUGHTS = re.compile(
    rf"""(?P<end> <\|?channel\|?>\s*final\s*(?:<\|message\|>)? | assistantfinal | <channel\|>
      | \[BEGIN[ ]FINAL[ ]RESPONSE\] | [<\[◁{{]\|? (?:/ | end_?(?:of_?)?) (?:\w+:)? (?:{_THOUGHT}) \|?[>\]▷}}] )
      | <\|?channel\|?>\s*\w+\s*(?:<\|message\|>)? | \A\s*analysis(?=[A-Z]) | [<\[◁{{]\|? (?:start_?|begin_?(?:of_?)?)?
        (?:\w+:)? (?:{_THOUGHT}) \|?[>\]▷}}]""",
    re.I | re.X,
)
"""Where thoughts begin and `end`: tags in any brackets, also of a begin and an end, and channels."""
_TAGS = re.compile(r"<\|\w+\|>|</?(?:answer|final_answer|response|output|[uo]l|li)>", re.I)


def _spoken(text: str) -> str:
    """Cut away thoughts, closed or not, and what exceeds any sensible length."""
    kept, at, thinking = "", 0, False
    for mark in _THOUGHTS.finditer(text):
        if not mark["end"]:
            kept += "" if thinking else text[at : mark.start()]
        elif not thinking:
            kept = ""  # they began before the text did
        thinking, at = not mark["end"], mark.end()
    text = _TAGS.sub("\n", (kept if thinking else kept + text[at:])[-_LONGEST_ANSWER:]).strip()
    if text.startswith('"'):
        with suppress(ValueError):  # JSON inside a JSON string
            return str(json.loads(text))
    return text


Found = tuple[list[str], list[str]]
"""Candidates for phrases, and look-alikes."""


def _candidates(text: str, cut_off: bool) -> list[Found]:
    """Return the answers in a text, the one that counts most last."""
    lines = "" if refuses(text) else text.rpartition("\n")[0] if cut_off else text
    parts = re.split(r"(?m)^(?=[ *#(]{0,8}1[.)]\s)", lines)  # another list
    lists = [_listed(part) for part in (lines, *(parts[1:] if len(parts) > 2 else ()))]
    decoder, values, at = json.JSONDecoder(strict=False), [], 0
    with suppress(ValueError, RecursionError):
        while mark := re.compile(r"[\[{]").search(text, at):
            value, at = decoder.raw_decode(text, mark.start())
            values.append(value)
    found, rest = [one for one in map(_of_value, values) if any(one)], text[at:]
    if re.search(r"[\[({]", rest):
        least = 2 if found else 0  # a word in brackets behind an answer is none
        marks = [mark.start() for mark in re.finditer(r"[\"'\[{]", rest)]
        last = rest[max(0, len(rest) - _LONGEST_MENDED, *marks[:-_MOST_MARKS][-1:]) :]
        found += [one for one in _mended(last, cut_off) if any(one) and len(one[0]) >= least]
    if not found:
        return lists
    every = [phrase for phrases, _ in found for phrase in phrases], [name for _, alike in found for name in alike]
    return [*(one for one in lists if len(one[0]) > len(every[0]) and _ITEM.search(text)), every, *found]


def _mended(text: str, cut_off: bool) -> list[Found]:
    """Read what is nearly JSON; a last string without an end is half a one, and left out."""
    from json_repair import loads

    value: Any = []
    with suppress(ValueError, RecursionError):
        value = loads(text)
    several = isinstance(value, list) and all(isinstance(one, list | dict) for one in value)
    found = list(map(_of_value, value if several else [value]))
    opened = sum(text.count(one) for one in "[({") > sum(text.count(one) for one in "])}")
    if found and opened and (cut_off or text[-1] not in _AROUND):
        del (found[-1][0] or found[-1][1])[-1:]
    return found


def _of_value(value: Any) -> Found:
    """Return what a JSON value holds: the strings of its lists, and of its objects those that a key says to be it."""
    if isinstance(value, str):
        return [value], []
    if isinstance(value, list):
        nested = [one for one in value if isinstance(one, list | dict)]
        if len(nested) == 2 and all(isinstance(one, list) for one in nested) and len(nested[0]) <= 4 < len(nested[1]):
            return _of_value(nested[1])[0], _of_value(nested[0])[0]  # no keys, but in the order that was asked for
        parts = [_of_value(one) for one in nested or value]
        return [phrase for phrases, _ in parts for phrase in phrases], [name for _, alike in parts for name in alike]
    if not isinstance(value, dict):
        return [], []
    alike = [one for key, one in value.items() if _ALIKE.search(key)]
    names = [name for one in alike for name in (split_names(one) if isinstance(one, str) else _of_value(one)[0])]
    rest = {key: one for key, one in value.items() if not _ALIKE.search(key)}
    chosen = [one for key, one in rest.items() if _OF_PHRASES.search(key)] or list(rest.values())
    nested = [one for one in chosen if isinstance(one, list | dict)]
    if not nested and not any(map(_OF_PHRASES.search, rest)) and len(chosen) <= 2:
        chosen = sorted((one for one in chosen if isinstance(one, str)), key=len)[-1:]  # of a part and its look
    phrases, more = _of_value(nested or chosen)
    return phrases, names + more


def _take(
    found: Sequence[str], class_name: str, before: Iterable[str], asked: str | None
) -> tuple[list[str], Counter[str]]:
    """Return what is usable after what was `before`, and count the reasons of what is not."""
    kept, dropped = list(before), Counter[str]()
    known = {phrase.casefold() for phrase in kept}
    name = re.escape(" ".join(class_name.split()))
    prefix = re.compile(rf"(?:(?:a|an|the) )?{name}(?:'s|:|,| with| has| have| having| [-–—]) (?=\S)", re.I)
    names_it = re.compile(rf"(?<![A-Za-z0-9]){name}(?:e?s)?(?![A-Za-z0-9])", re.I)
    phrases = [_phrase(text, prefix if name else None) for text in found]
    others = foreign(phrases, asked) if asked is not None else frozenset()
    for phrase in phrases:
        faults = {
            "without words": not phrase,
            f"of {MOST_CHARACTERS + 1} characters or more": len(phrase) > MOST_CHARACTERS,
            "refusing": refuses(phrase),
            "in another language": phrase in others,
            "naming the class": bool(name and names_it.search(phrase)),
            "repeated": phrase.casefold() in known,
        }
        if fault := next((fault for fault, there in faults.items() if there), ""):
            dropped[fault] += 1
        else:
            known.add(phrase.casefold())
            kept.append(phrase)
    return kept, dropped


def _phrase(text: str, prefix: re.Pattern[str] | None) -> str:
    """Return a phrase in its final form; empty where there is none."""
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
    known = {class_name.casefold(): ""}
    for name in map(_clean, names):
        if len(name) <= MOST_CHARACTERS and _says_something(name):
            known.setdefault(name.casefold(), name)
    return tuple(filter(None, known.values()))[:_MOST_LOOK_ALIKES]


def _says_something(text: str) -> bool:
    """Whether a text is of words: at least half letters, no broken bytes, and not the answer's form repeated."""
    letters = sum(unicodedata.category(c)[0] in "LM" for c in text)
    broken = any(c == "\ufffd" or unicodedata.category(c) in ("Cn", "Co") for c in text)
    return letters > 1 and 2 * letters >= len(text.replace(" ", "")) and not broken and not _PLACEHOLDER.fullmatch(text)


def _clean(text: str) -> str:
    """Return one line without control characters, numbering, quotes and a final full stop."""
    text = text[: 8 * MOST_CHARACTERS]  # too long, whatever is stripped from it
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text if c not in "\u200b\ufeff")
    line = unicodedata.normalize("NFC", "".join(c for c in kept if unicodedata.category(c) != "Cs"))
    line = " ".join(line.split()).lstrip(_AROUND).rstrip(_AT_THE_END)
    return _NUMBERING.sub("", line, count=1) if _NUMBERING.match(line) else line


def _reason(text: str, usable: int, wanted: int, dropped: Counter[str]) -> str:
    if not text:
        return "the answer is empty"
    if not usable and not dropped.keys() - {"without words"}:
        shown = plain(text[:200])
        refused = "the model refuses" if refuses(text) else "there are no phrases in the answer"
        return f'{refused} "{shown[:60]}{"..." if len(shown) > 60 else ""}"'
    why = f" ({', '.join(f'{n} {what}' for what, n in dropped.items())})" if dropped else ""
    return f"it gives {usable} of {wanted} usable phrases{why}"


_ITEM = re.compile(
    r"^\s*(?:[-*•·–—‣▪●+✓✔✅→]+\s|[(（]?(?:\d{1,3}|[a-z](?=[.)]\s))\s?[.):、．）](?!\d)|[①-⑳])\s*(?P<text>.+)",
    re.M,
)
_ALIKE_LINE = re.compile(r"[^:：]{0,60}(?:alike|similar|confus)[^:：]{0,60}[:：](?P<names>.+)", re.I)
_LONGEST_LINE = 500


def _listed(text: str) -> Found:
    """Read items or the rows of a table, else plain short lines; those of look-alikes follow a heading or a colon."""
    items, alike, plain, rows = list[str](), list[str](), list[str](), list[list[str]]()
    into = items
    for line in text.splitlines():
        bare = line.replace("**", "").replace("`", "").strip()
        if not bare or len(bare) > _LONGEST_LINE:
            continue
        item = _ITEM.match(bare)
        if bare.count("|") > 1:
            rows.append([cell.strip() for cell in bare.strip("|").split("|")])
        elif named := _ALIKE_LINE.match(bare):
            alike += split_names(named["names"])
        elif bare.endswith((":", "：")) or line.lstrip().startswith("#"):
            into = alike if _ALIKE.search(bare) else items
        elif item:
            into.append(item["text"])
        else:
            plain.append(bare)
            into = items if items else into
    return items or _column(rows, _OF_PHRASES) or _phrases_alone(plain), alike + _column(rows, _ALIKE)


def _column(rows: list[list[str]], of: re.Pattern[str]) -> list[str]:
    """Return the column of a table whose head says what it is `of`; for phrases else the one with most to read."""
    head, *body = [row for row in rows if any(set(cell) - set(":-") for cell in row)] or [[]]
    columns = [(name, [row[i] for row in body if i < len(row)]) for i, name in enumerate(head)]
    named = [cells for name, cells in columns if of.search(name)]
    longest = max((cells for _, cells in columns), key=lambda cells: len("".join(cells)), default=[])
    return named[-1] if named else longest if of is _OF_PHRASES else []


def split_names(text: str) -> list[str]:
    """Split ``a, b and c`` into its names."""
    return [name for part in re.split(r"[,;，；、]", text) for name in part.split(" and ") if name.strip()]


def _phrases_alone(lines: list[str]) -> list[str]:
    """Return lines without any mark if most of them can be phrases: short and no sentences."""
    if len(lines) == 1 and lines[0].count(";") > 1:
        lines = [part.strip(" .") for part in lines[0].rpartition(":")[2].split(";") if part.strip(" .")]
    short = [
        line
        for line in lines
        if line[-1] not in ".!?:。！？："
        and len(line.split()) <= 20
        and (" " in line or not line.isascii())
        and not set("<>{}|=\\") & set(line)
    ]
    return short if 2 * len(short) > len(lines) else []
