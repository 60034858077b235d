"""A page as an HTML reader sees it, and its figures held against the files that they are of."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import takewhile
from pathlib import Path
from typing import Any

from concord.report.page import write_report

NAMES = ("canyon damsel", "temple tang", "büro stuhl")
HOSTILE = "<script>alert(1)</script>/../x"


class Page(HTMLParser):
    """What an HTML reader sees: tags with their text, one after the other."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")
        if tag not in ("meta", "link", "input", "img", "br"):
            self._open.append(len(self.tags) - 1)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.tags[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.texts[place] += data

    def all(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        pairs = zip(self.tags, self.texts, strict=True)
        return [(a, text) for (t, a), text in pairs if t == tag and all(a.get(k) == v for k, v in wanted.items())]

    def json(self, name: str) -> Any:
        return json.loads(self.all("script", id=name)[0][1])

    def samples(self, position: int) -> list[dict[str, Any]]:
        """What the scripts know of a class's samples."""
        found: list[dict[str, Any]] = self.json(f"samples-{position}")
        return found

    def pictures(self, position: int) -> list[list[str]]:
        """A class's data URIs: those of the first sample are images of its section, the others data."""
        start = next(n for n, (_, a) in enumerate(self.tags) if a.get("id") == f"class-{position}")
        within = takewhile(lambda tag: tag[0] not in ("section", "details"), self.tags[start + 1 :])
        first = [str(a["src"]) for tag, a in within if tag == "img"]
        return [first, *self.json(f"pictures-{position}")] if first else []


def page_of(out: Path) -> Page:
    return Page(write_report(out).read_text(encoding="utf-8"))


def at(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values[int(name)] if isinstance(values, list) else values[name]
    return values


def figures(page: Page, out: Path) -> dict[str, str]:
    """Check every figure on the page against the file that it names; return them by their place."""
    shown = {}
    for attributes, text in page.all("data"):
        place = str(attributes["data-from"])
        file, key = place.split(":", 1)
        true = at(json.loads((out / file).read_text(encoding="utf-8")), key)
        assert json.loads(str(attributes["value"])) == true, place
        number = re.match(r"[+\u2212]?[\d,]*\.?\d*", text.strip())
        assert number and number[0], (place, text)
        digits = number[0].replace("\u2212", "-").replace(",", "")
        decimals = len(digits.partition(".")[2])
        signed = digits.startswith(("+", "-")) and not place.startswith("concepts")
        plain = file == "evaluation.json" or "foreign" in key or "diversity" in key
        scale = 100 if "%" in text or (signed and not plain) else 1
        assert abs(float(digits) - scale * true) <= 0.5 * 10**-decimals + 1e-9, (place, text, true)
        shown[place] = text
    return shown
