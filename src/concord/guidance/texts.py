"""What images are to show, and what not, as texts: one list for each image, or one for all."""

import math
from collections.abc import Sequence

from concord.errors import ConcordError
from concord.guidance.objectives import Objective
from concord.models.encoder import Encoder

Texts = Sequence[str] | Sequence[Sequence[str]]


def text_objective(
    encoder: Encoder, positives: Texts, negatives: Texts = (), temperature: float | None = None
) -> Objective:
    """Eq. 12 with these texts (Eq. 11 without negatives), as many lists of one as of the other or one for all.

    Raises ConcordError also where a text is empty or on both sides, and for a temperature that has nothing to contrast.
    """
    own, others = _rows(positives, "positives"), _rows(negatives, "negatives")
    if not all(own):
        raise ConcordError("positives is empty: give the texts that each image is to show")
    if temperature is not None and not 0 < temperature < math.inf:
        raise ConcordError(f"temperature is {temperature}; expected a finite number above 0, or None")
    if temperature is not None and not any(others):
        raise ConcordError("temperature is of the contrast with negatives (Eq. 12), and there are none: leave it out")
    if len(others) not in (1, len(own)) and len(own) != 1:
        raise ConcordError(f"{len(own)} lists of positives but {len(others)} of negatives: give one for each image")
    images = max(len(own), len(others))
    own, others = (rows * images if len(rows) == 1 else rows for rows in (own, others))
    for shown, not_shown in zip(own, others, strict=True):
        if both := {_spelt(text) for text in shown} & {_spelt(text) for text in not_shown}:
            raise ConcordError(f'"{min(both)}" is both a positive and a negative of an image: take one of them away')
    p, n = ([encoder.texts(row) for row in rows] for rows in (own, others))
    return Objective.contrastive(p, n, encoder.temperature if temperature is None else temperature)


def _rows(texts: Texts, name: str) -> list[list[str]]:
    if isinstance(texts, str):
        raise ConcordError(f'{name} is the text "{texts}"; expected a list of texts, or a list of them for each image')
    if any(isinstance(text, str) for text in texts) and not all(isinstance(text, str) for text in texts):
        raise ConcordError(f"{name} mixes texts and lists of texts; give a list of texts for each image")
    rows = [list(row) for row in texts if not isinstance(row, str)] or [[str(text) for text in texts]]
    if any(isinstance(text, str) and not text.strip() for row in rows for text in row):
        raise ConcordError(f"{name} has an empty text; give phrases that say what an image is to show, or not")
    return rows


def _spelt(text: str) -> str:
    return " ".join(text.casefold().split())
