"""What a language model is asked. Two prompts: phrases that tell look-alikes apart, and phrases that describe."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from concord.concepts.llm.parse import MOST_CHARACTERS
from concord.errors import ConcordError
from concord.text import nearest

Message = dict[str, str]
_ROLE = """\
You write down what things look like, for a program that has to recognise them in photographs. You know in which \
details close relatives and near copies differ, and you only state what is true of nearly every example."""
_DISTINCTIVE = """\
First settle on two or three other classes that a viewer would most easily take for this one{among}. Keep them in mind \
as its look-alikes. Then write {count} phrases, each about one visible detail that this class shows and that at least \
one of the look-alikes does not."""
_DESCRIPTIVE = """\
Write {count} phrases, each about one visible feature by which this class can be recognised in a photograph. Together \
they should give the whole picture: overall form, main parts, colours, surface, proportions."""
_RULES = """\
Every phrase
- describes how a part looks: its shape, colour, pattern, surface, size or place, as a camera would record it
- says nothing of behaviour, use, taste, smell, sound, origin or character
- is specific and stays under {most} characters
- starts in lower case and has no full stop
- leaves the name of the class out: it is read as "{name} with" followed by the phrase
- is about another detail than the other phrases"""
_PHRASES_FORM = {"phrases": ["phrase", "phrase"]}


@dataclass(frozen=True)
class Prompt:
    """A way of asking. `form` is the JSON that the answer has to take, with its parts as examples."""

    name: str
    task: str
    form: dict[str, list[str]]

    @property
    def schema(self) -> dict[str, Any]:
        """The answer's form as a JSON schema, for servers that can hold a model to one."""
        strings = {"type": "array", "items": {"type": "string"}}
        return {
            "type": "object",
            "properties": {key: strings for key in self.form},
            "required": list(self.form),
            "additionalProperties": False,
        }

    @property
    def sha256(self) -> str:
        """A digest of all fixed words of the prompt: two banks with the same one were asked for alike."""
        said = [*self.messages("", 0, [" "]), again("", 0, [" "])]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def messages(self, name: str, count: int, others: Sequence[str] = (), about: str = "") -> list[Message]:
        """What to send for `count` phrases of one class.

        others: the other classes of the set, from which look-alikes are to be taken; none leaves the choice free.
        about: what kind of images these are, in the user's words.
        """
        among = ", from the list of the other classes as far as it has any" if others else ""
        lines = [f"Class: {name}", *([f"The images: {about}"] if about else [])]
        lines += [f"The other classes: {'; '.join(others)}"] if others else []
        task = self.task.format(count=count, among=among)
        rules = _RULES.format(most=MOST_CHARACTERS + 1, name=name)
        form = f"Answer with nothing but JSON of this form:\n{json.dumps(self.form)}"
        # One message from the user: some local models' chat templates refuse a system message.
        return [{"role": "user", "content": "\n\n".join([_ROLE, "\n".join(lines), task, rules, form])}]


def again(reason: str, lacking: int, have: Sequence[str]) -> Message:
    """What to send after an answer that could not be used in full, for some `reason`.

    lacking: how many phrases are still wanted. have: those that are fine already, not to be repeated.
    """
    kept = f" These are fine, do not repeat them: {'; '.join(have)}." if have else ""
    wanted = f"Write {lacking} {'more ' if have else ''}phrases by the same rules, and answer with nothing but JSON"
    return {"role": "user", "content": f"That was not usable as it is: {reason}.{kept} {wanted} of the same form."}


PROMPTS = {
    "distinctive": Prompt("distinctive", _DISTINCTIVE, {"look_alikes": ["class", "class"], **_PHRASES_FORM}),
    "descriptive": Prompt("descriptive", _DESCRIPTIVE, _PHRASES_FORM),
}


def prompt_named(name: str) -> Prompt:
    """Return a prompt by its name. Raises ConcordError: there is no such prompt."""
    if name not in PROMPTS:
        raise ConcordError(f'unknown prompt "{name}"{nearest(name, PROMPTS)}; there are {", ".join(PROMPTS)}')
    return PROMPTS[name]
