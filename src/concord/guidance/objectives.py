"""What an image is to agree with: losses per image, alone (the functions) or bound to one batch (`Objective`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from concord.errors import ConcordError


def cosine(image: Tensor, positives: Tensor, positive_mask: Tensor | None = None) -> Tensor:
    """Eq. 11: minus the mean similarity of each image with its positive concepts, (B,).

    image: (B, D) unit vectors. positives: (B, P, D) unit vectors. positive_mask: (B, P), False where a row is padding.
    A loss: the paper's minus sign is kept, so it is to be descended.
    """
    return -_mean(_similarities(image, positives), positive_mask)


def contrastive(
    image: Tensor,
    positives: Tensor,
    negatives: Tensor | None,
    temperature: float,
    positive_mask: Tensor | None = None,
    negative_mask: Tensor | None = None,
) -> Tensor:
    """Eq. 12: mean over the positives of -log(e^(p/tau) / (e^(p/tau) + sum_j e^(n_j/tau))), (B,).

    image: (B, D), positives: (B, P, D), negatives: (B, N, D), all unit vectors; masks (B, P) and (B, N), False where a
    row is padding. An image without negatives gets Eq. 11 instead, as in the paper: Eq. 12 is constant there.
    At tau 0.01 the gradient is up to 100 times that of Eq. 11: weights are not shared between the two.
    """
    plain = cosine(image, positives, positive_mask)
    if negatives is None or negatives.shape[1] == 0:
        return plain
    against = _similarities(image, negatives) / temperature
    if negative_mask is not None:
        against = against.masked_fill(~negative_mask, -1e30)  # finite: a row of -inf has no gradient but NaN
    # -log(e^p / (e^p + e^n)) = log(1 + e^(n - p)), which cannot overflow in this form.
    margins = torch.logsumexp(against, dim=1, keepdim=True) - _similarities(image, positives) / temperature  # (B, P)
    loss = _mean(torch.logaddexp(margins, torch.zeros_like(margins)), positive_mask)
    return loss if negative_mask is None else torch.where(negative_mask.any(dim=1), loss, plain)


def class_name(image: Tensor, names: Tensor) -> Tensor:
    """Eq. 11 with nothing but the class's name: image (B, D) and names (B, D), unit vectors, to a loss (B,)."""
    return cosine(image, names[:, None])


def classifier(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, (B,), of logits (B, K) with labels (B,): classifier guidance, the paper's Sec. 4.3."""
    return F.cross_entropy(_fine(logits), labels, reduction="none")


class ImageEncoder(Protocol):
    """Whatever embeds images: (B, 3, H, W) in [-1, 1] to unit vectors (B, D), differentiably."""

    def images(self, pixels: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Objective:
    """A weighted loss, bound to what one batch of images is to agree with.

    loss: (image embeddings (B, D), pixels (B, 3, H, W) in [-1, 1]) to a loss (B,).
    embeds: whether it reads the embeddings; where no objective does, no encoder runs and they are (B, 0).
    encoder: whose embeddings it reads, where they are not those of the guide's own.

    The embeddings that the builders take may be one tensor (B, P, D), or one (P_i, D) an image, of any lengths. With
    fewer rows than images each row serves as many images in a row, as a pipeline's `num_images_per_prompt` orders them.
    """

    weight: float
    loss: Callable[[Tensor, Tensor], Tensor]
    embeds: bool = True
    encoder: ImageEncoder | None = None

    @classmethod
    def cosine(cls, positives: Tensor | Sequence[Tensor], weight: float = 1.0) -> Self:
        """Eq. 11."""
        rows = _stack(positives)
        return cls(weight, lambda image, _: cosine(image, *_spread(rows, image)))

    @classmethod
    def contrastive(
        cls,
        positives: Tensor | Sequence[Tensor],
        negatives: Tensor | Sequence[Tensor],
        temperature: float,
        weight: float = 1.0,
    ) -> Self:
        """Eq. 12. temperature: the encoder's own, where nothing better is known."""
        own, others = _stack(positives), _stack(negatives)

        def loss(image: Tensor, _: Tensor) -> Tensor:
            (p, p_mask), (n, n_mask) = _spread(own, image), _spread(others, image)
            return contrastive(image, p, n, temperature, p_mask, n_mask)

        return cls(weight, loss)

    @classmethod
    def class_name(cls, names: Tensor, weight: float = 1.0) -> Self:
        """Eq. 11 with the names' embeddings, (B, D)."""
        return cls(weight, lambda image, _: class_name(image, names))

    @classmethod
    def classifier(cls, logits: Callable[[Tensor], Tensor], labels: Tensor, weight: float = 1.0) -> Self:
        """Cross-entropy of a classifier's `logits` of pixels with labels (B,); it sees no embedding."""
        return cls(weight, lambda _, pixels: classifier(logits(pixels), labels.to(pixels.device)), embeds=False)


def total(
    objectives: Sequence[Objective], pixels: Tensor, encoder: ImageEncoder | None, rows: Tensor | None = None
) -> Tensor:
    """The weighted sum of the objectives, (B,), float32 or finer, of images (B, 3, H, W) in [-1, 1].

    rows: (B,) bool, where the pixels are those of some of the batch's images only; the loss of the others is 0.
    Raises ValueError: an objective reads embeddings and there is no encoder, or there is no objective.
    """
    if not objectives:
        raise ValueError("informing needs at least one objective")
    embedded: dict[int, Tensor] = {0: pixels.new_empty(len(pixels), 0)}
    for own in (objective.encoder or encoder for objective in objectives if objective.embeds):
        if own is None:
            raise ValueError("an objective on image embeddings needs an encoder")
        if id(own) not in embedded:
            embedded[id(own)] = own.images(pixels)
    if rows is not None:
        # The objectives are bound to the whole batch; the costly part, the networks up to here, saw some of it only.
        embedded, pixels = {key: _scattered(image, rows) for key, image in embedded.items()}, _scattered(pixels, rows)
    losses = torch.stack(
        [o.weight * o.loss(embedded[id(o.encoder or encoder) if o.embeds else 0], pixels) for o in objectives]
    ).sum(dim=0)
    return losses if rows is None else torch.where(rows, losses, torch.zeros_like(losses))


def _scattered(values: Tensor, rows: Tensor) -> Tensor:
    """Rows of a part at their places in the whole, zeros elsewhere; differentiable."""
    return values.new_zeros(len(rows), *values.shape[1:]).index_put((rows,), values)


def _similarities(image: Tensor, concepts: Tensor) -> Tensor:
    """(B, D) and (B, P, D) to (B, P)."""
    image, concepts = _fine(image), _fine(concepts)
    return torch.einsum("bd,bpd->bp", image, concepts.to(image))


def _fine(values: Tensor) -> Tensor:
    """Float32 at least: half precision is for the networks, not for similarities and losses."""
    return values if values.dtype == torch.float64 else values.float()


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of each row, (B, P) to (B,), over what is not padding."""
    if mask is None:
        return values.mean(dim=1)
    return (values * mask).sum(dim=1) / mask.sum(dim=1)


def _spread(rows: tuple[Tensor, Tensor | None], image: Tensor) -> tuple[Tensor, Tensor | None]:
    """One row of concepts for each image, (B, P, D) and its mask (B, P)."""
    stacked, mask = rows
    times, rest = divmod(len(image), len(stacked))
    if rest or not times:
        raise ConcordError(f"{len(stacked)} lists of concepts do not fit a batch of {len(image)} images; give one each")
    if times == 1:
        return rows
    return stacked.repeat_interleave(times, 0), None if mask is None else mask.repeat_interleave(times, 0)


def _stack(rows: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """One tensor (B, P, D) as it is; rows of (P_i, D) as (B, P, D) padded with zeros, and a mask where they differ."""
    if isinstance(rows, Tensor):
        return rows, None
    lengths = torch.tensor([len(row) for row in rows])
    if len(set(lengths.tolist())) == 1:
        return torch.stack(list(rows)), None
    stacked = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    mask = torch.arange(stacked.shape[1])[None] < lengths[:, None]
    return stacked, mask.to(stacked.device)
