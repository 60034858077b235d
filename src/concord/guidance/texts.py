"""What images are to show, and what not, as texts: one list for each image, or one for all."""

from collections.abc import Sequence

from concord.errors import ConcordError
from concord.guidance.objectives import Objective
from concord.models.encoder import Encoder

Texts = Sequence[str] | Sequence[Sequence[str]]


def text_objective(
    encoder: Encoder, positives: Texts, negatives: Texts = (), temperature: float | None = None
) -> Objective:
    """Eq. 12 with these texts (Eq. 11 without negatives), as many lists of one as of the other or one for all."""
    own, others = _rows(positives, "positives"), _rows(negatives, "negatives")
    if not all(own):
        raise ConcordError("positives is empty: give the texts that each image is to show")
    if len(others) not in (1, len(own)) and len(own) != 1:
        raise ConcordError(f"{len(own)} lists of positives but {len(others)} of negatives: give one for each image")
    images = max(len(own), len(others))
    p, n = ([encoder.texts(row) for row in (rows * images if len(rows) == 1 else rows)] for rows in (own, others))
    return Objective.contrastive(p, n, encoder.temperature if temperature is None else temperature)


def _rows(texts: Texts, name: str) -> list[list[str]]:
    if isinstance(texts, str):
        raise ConcordError(f'{name} is the text "{texts}"; expected a list of texts, or a list of them for each image')
    if all(isinstance(text, str) for text in texts):
        return [[str(text) for text in texts]]
    if any(isinstance(text, str) for text in texts):
        raise ConcordError(f"{name} mixes texts and lists of texts; give a list of texts for each image")
    return [list(row) for row in texts]
