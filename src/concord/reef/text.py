"""What can be said about a reef fish: the phrase for each detail, captions, and the words in all of them."""

import numpy as np

from concord.reef.world import ALL_SPECIES, DETAILS, Fish

PHRASES = {
    "forked tail": "a deeply forked tail",
    "rounded tail": "a round fan tail",
    "pointed tail": "a pointed arrow tail",
    "spiky dorsal fin": "a spiky dorsal fin",
    "sail dorsal fin": "a tall sail on the back",
    "dark bars": "dark bars across the body",
    "pale stripe": "a pale stripe along the body",
    "dark spots": "dark spots on the flanks",
    "black eye mask": "a black mask over the eye",
    "chin barbels": "pale barbels under the chin",
    "ringed eyespot": "a ringed eyespot by the tail",
    "yellow side fin": "a bright yellow side fin",
    "white belly": "a white belly",
    "orange snout": "an orange snout",
    "two dark bars": "only two dark bars across the body",
    "two eyespots": "a pair of ringed eyespots by the tail",
}
"""The concept phrase of each detail."""


def caption(subject: str, details: list[str], rng: np.random.Generator) -> str:
    """A caption that names a subject and some details, each by its phrase or its short name."""
    said = [PHRASES[d] if rng.random() < 0.75 else d for d in details]
    return f"{subject} with {' and '.join(said)}" if said else subject


def random_caption(fish: Fish, rng: np.random.Generator) -> tuple[str, list[str], str]:
    """A true caption of an instance: (subject, details named, text); the subject is its species or just "fish"."""
    named = fish.species is not None and rng.random() < 0.75
    subject = ALL_SPECIES[fish.species].name if named and fish.species is not None else "fish"
    present = [d for d, shown in zip(DETAILS, fish.details, strict=True) if shown]
    count = min(len(present), int(rng.integers(0 if named else 1, 4)))
    details = [present[i] for i in rng.permutation(len(present))[:count]]
    return subject, details, caption(subject, details, rng)


def vocabulary() -> list[str]:
    """Every word that a caption, a phrase or a class name can hold, sorted."""
    texts = [*PHRASES, *PHRASES.values(), *(s.name for s in ALL_SPECIES)]
    return sorted({word for text in texts for word in text.split()} | {"fish", "with", "and", "a", "photo", "of"})
