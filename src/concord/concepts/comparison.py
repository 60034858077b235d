"""Two banks side by side, class by class: prompts or models are judged by what they say of the same class (Fig. 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from concord.concepts.bank import Bank
from concord.concepts.lint import lint
from concord.concepts.selection import Concept
from concord.concepts.wording import gist, words

Rate = Callable[[str, Sequence[str]], Sequence[Concept]]
"""From a class name and phrases to their activations on its real images."""


@dataclass(frozen=True)
class Line:
    """A phrase of one bank; `common` if the other bank says the same of the class; unrated without real images."""

    phrase: str
    common: bool
    activation: float | None = None
    kept: bool | None = None


@dataclass(frozen=True)
class Pair:
    """A class in both banks: its lines and lint faults in the first and in the second."""

    class_name: str
    lines: tuple[list[Line], list[Line]]
    faults: tuple[int, int]


def compare(a: Bank, b: Bank, rate: Rate | None = None, names: Sequence[str] | None = None) -> list[Pair]:
    """Compare the classes that both banks have, in the first one's order; names match whatever their case and hyphens.

    Args:
        a, b: the banks.
        rate: rates phrases on real images; None leaves activations out, and the phrases in the banks' own order.
        names: only these classes, by their names in texts.
    """
    in_a, in_b = ({words(name): name for name in bank.classes} for bank in (a, b))
    faults = [Counter(fault.class_name for fault in lint(bank)) for bank in (a, b)]
    pairs = []
    for name in a.classes if names is None else names:
        key = words(name)
        if key not in in_a or key not in in_b:
            continue
        own = (in_a[key], in_b[key])
        phrases = (a.classes[own[0]].phrases, b.classes[own[1]].phrases)
        said = [{gist(phrase) for phrase in some} for some in phrases]
        lines = tuple(_lines(name, some, said[1 - i], rate) for i, some in enumerate(phrases))
        pairs.append(Pair(own[0], (lines[0], lines[1]), (faults[0][own[0]], faults[1][own[1]])))
    return pairs


def only_in(a: Bank, b: Bank) -> list[str]:
    """Classes that `a` has and `b` has not."""
    there = {words(name) for name in b.classes}
    return [name for name in a.classes if words(name) not in there]


def _lines(name: str, phrases: Sequence[str], other: set[tuple[str, ...]], rate: Rate | None) -> list[Line]:
    if rate is None:
        return [Line(phrase, gist(phrase) in other) for phrase in phrases]
    return [Line(c.phrase, gist(c.phrase) in other, c.activation, c.kept) for c in rate(name, phrases)]
