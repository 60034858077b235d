"""Lint: what makes a bank's phrases useless or harmful to informing, found without a model or an image."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from concord.concepts.bank import Bank, ClassConcepts
from concord.concepts.words import Words, foreign, gist, non_visual, refuses, words
from concord.text import listed

LONGEST, FEWEST = 127, 10
"""Characters that a phrase may have, and phrases that a class needs (paper, App. B: about ten, under 128)."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, with its kind in a word; `phrase` is empty where it is the class as a whole."""

    kind: str
    class_name: str
    phrase: str
    message: str


def lint(bank: Bank) -> list[Fault]:
    """Check every class and phrase of a bank, in the bank's order; a clean bank gives an empty list.

    Phrases are compared by their words: case, accents, punctuation, spaces and articles make no difference. Those that
    the bank declares as `shared` may stand in several classes, but only once in each.
    """
    if not bank.classes:
        return [Fault("empty", "", "", "the bank has no classes")]
    holders: dict[Words, list[str]] = defaultdict(list)
    for name, entry in bank.classes.items():
        for said in dict.fromkeys(gist(phrase) for phrase in entry.phrases):
            holders[said].append(name)
    declared = {gist(phrase) for phrase in bank.shared} | {()}
    faults: list[Fault] = []
    for name, entry in bank.classes.items():
        faults += _of_class(name, entry, told_apart=not _DESCRIPTIVE & set(bank.provenance.items()))
        odd = foreign(entry.phrases, f"{name} {bank.provenance.get('about', '')}")
        seen: dict[Words, str] = {}
        for phrase in entry.phrases:
            faults += _of_phrase(name, phrase)
            if phrase in odd:
                text = "is in another language than the class's name, which most encoders do not read"
                faults.append(Fault("language", name, phrase, text))
            said = gist(phrase)
            if said and said in seen:
                faults.append(Fault("duplicate", name, phrase, f'says the same as "{seen[said]}"'))
            elif said not in declared and len(holders[said]) > 1:
                faults.append(_shared(bank, name, phrase, [other for other in holders[said] if other != name]))
            seen.setdefault(said, phrase)
    return faults


_DESCRIPTIVE = {("prompt", "descriptive"), ("rules", "descriptive")}
"""What a bank says of where it comes from whose phrases describe a class, and need not tell it from any."""


def _of_class(name: str, entry: ClassConcepts, told_apart: bool) -> Iterator[Fault]:
    count = len({gist(phrase) for phrase in entry.phrases} - {()})
    if count < FEWEST:
        yield Fault("too-few", name, "", f"{count} different phrases; selection wants at least {FEWEST} to choose from")
    if not entry.look_alikes and told_apart:
        yield Fault("no-look-alikes", name, "", "names no look-alikes that its phrases tell it from")
    for other in entry.look_alikes:
        if not words(other):
            yield Fault("look-alike-empty", name, "", "names an empty look-alike")
        elif words(other) == words(name):
            yield Fault("look-alike-itself", name, "", "names itself as its look-alike")


def _of_phrase(name: str, phrase: str) -> Iterator[Fault]:
    if not words(phrase):
        yield Fault("empty", name, phrase, "has no words")
        return
    if len(phrase) > LONGEST:
        yield Fault("too-long", name, phrase, f"has {len(phrase)} characters; at most {LONGEST} are allowed")
    if next(character for character in phrase if character.isalnum()).isupper():
        yield Fault("upper-case", name, phrase, "starts with a capital; a text reads {class} with {phrase}")
    if _mentions(phrase, name):
        yield Fault("class-name", name, phrase, "has the class's name in it, which the text names anyway")
    if refuses(phrase):
        yield Fault("refusal", name, phrase, "is a model's refusal, and describes nothing")
    for word, topic in non_visual(phrase):
        yield Fault("non-visual", name, phrase, f'"{word}" speaks of {topic}, which no picture shows')


def _shared(bank: Bank, name: str, phrase: str, others: list[str]) -> Fault:
    alikes = {of: set(map(words, bank.classes[of].look_alikes)) for of in (name, *others)}
    if alike := [other for other in others if words(other) in alikes[name] or words(name) in alikes[other]]:
        text = f"also stands in {listed(alike, 3)}, a look-alike of this class: it cannot tell them apart"
        return Fault("shared-by-look-alikes", name, phrase, text)
    text = f"also stands in {listed(others, 3)}; if it must, declare it in the bank's shared"
    return Fault("shared", name, phrase, text)


_NO_SINGULAR = ("briefs", "glasses", "jeans", "pants", "scissors", "shorts", "slacks", "tights", "trousers", "trunks")
"""Names of one thing that end in s: the "short hem" of shorts does not name them."""
_IRREGULAR = {"mouse": "mice", "goose": "geese", "man": "men", "woman": "women", "foot": "feet", "tooth": "teeth"}


def _mentions(phrase: str, name: str) -> bool:
    """Whether a phrase holds a class name as whole words, in the singular or the plural, however it is hyphenated."""
    said, wanted = words(phrase), words(name)
    if not wanted:
        return False
    forms = {"".join(wanted[:-1]) + last for last in _numbers(wanted[-1])}
    # Words are joined before they are compared, so that a hot dog is found in "hotdog" and in "hot-dog".
    return any(
        "".join(said[start : start + length]) in forms
        for length in range(1, len(wanted) + 2)
        for start in range(len(said) - length + 1)
    )


def _numbers(word: str) -> set[str]:
    """A word with its likely plurals, and the singular of one that is itself a plural."""
    forms = {word, word + "s", word + "es"}
    if word.endswith("y"):
        forms.add(word[:-1] + "ies")
    if word.endswith(("f", "fe")):
        forms.add(word.removesuffix("e")[:-1] + "ves")
    forms |= {word.removesuffix(one) + many for one, many in _IRREGULAR.items() if word.endswith(one)}
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in _NO_SINGULAR and len(word) > 3:
        forms.add(word[:-1])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
        if word.endswith(("ches", "shes", "xes", "sses", "oes")):
            forms.add(word[:-2])
    return forms
