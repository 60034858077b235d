"""Prompt templates for pipelines that read text: 28, as many as the paper takes, in our own words.

They vary light, distance, angle and setting, and leave the class itself to its name: no article stands before the slot,
so that plural and uncountable names (shoes, fried rice) read as well.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from concord.errors import ConcordError

SLOT = "{class}"
TEMPLATES = (
    "a photo of {class}",
    "a sharp photo of {class}",
    "a close-up photo of {class}",
    "a photo of {class} from a distance",
    "a photo of {class} seen from the side",
    "a photo of {class} seen from the front",
    "a photo of {class} from a slightly raised viewpoint",
    "a photo of {class} at eye level",
    "a photo of {class} in the centre of the picture",
    "a photo of {class} that fills the frame",
    "a photo of {class}, complete and in full view",
    "a detailed photo of {class}",
    "a photo of {class} in natural light",
    "a photo of {class} in bright daylight",
    "a photo of {class} in soft morning light",
    "a photo of {class} under an overcast sky",
    "a photo of {class} indoors",
    "a photo of {class} outdoors",
    "a photo of {class} against a plain background",
    "a photo of {class} in its usual surroundings",
    "an everyday snapshot of {class}",
    "a professional photograph of {class}",
    "an amateur photograph of {class}",
    "a well-lit photograph of {class}",
    "a high-resolution photograph of {class}",
    "a photograph of typical {class}",
    "a photograph of unusual {class}",
    "a picture that clearly shows {class}",
)


def prompt(
    class_name: str,
    class_key: str,
    index: int,
    seed: int,
    templates: Sequence[str] = TEMPLATES,
    concepts: Mapping[str, str] | None = None,
) -> str:
    """Return the prompt of sample `index` of a class: its templates in a random order, every one once before any twice.

    The order depends on the recipe's seed and the class's key, so a prompt does not change with the number of images.
    concepts: what fills the slots `{concept}` and `{concepts}`. Raises ConcordError: one asks for what there is not.
    """
    order = _order(tuple(templates), class_key, seed)
    template, texts = order[index % len(order)], {SLOT: class_name, **(concepts or {})}

    def text(slot: str) -> str:
        if slot not in texts:
            raise ConcordError(
                f'nothing fills in {slot} of "{template}" for the class "{class_key}": no concept is kept for it;'
                " give it some (concepts.bank, concepts.pinned, more classes), or take the slot out"
            )
        return texts[slot]

    # What fills a slot is not looked at again.
    return "".join([text(part) if nth % 2 else part for nth, part in enumerate(_parts(template))])


@lru_cache(maxsize=2**10)
def _parts(template: str) -> list[str]:
    """A template's texts and slots in turn, a text first; kept, as each sample asks."""
    return re.split(r"(\{[^{}]*\})", template)


@lru_cache(maxsize=2**15)
def _order(templates: tuple[str, ...], class_key: str, seed: int) -> list[str]:
    """The templates in the order of a class; kept, since a plan goes through all classes again and again."""
    return sorted(templates, key=lambda t: hashlib.sha256(f"{seed}\0{class_key}\0{t}".encode()).digest())
