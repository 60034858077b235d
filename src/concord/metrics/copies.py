"""Near copies: is a made image one of the real ones, or nearly?

Each is compared with real images of its class: by their pixels, and by cosine between embeddings. It is flagged above
the similarity that 99.9 % of the real images do not reach with their nearest other real image: a threshold of each
class's own, as classes differ in how alike their images are; where there are few images, that of all classes together.
Of 200 real images it is nearly their greatest similarity, so about one in a hundred images that copy nothing lies above
it too (held-out images of reef: 3 of 300).

It is evidence, not proof: a copy of a real image that was not looked at (there are `most` a class, evenly spaced, and
always the condition images) goes unseen unless another one is near. Equal pixels are always flagged.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from concord.data import ImageSet
from concord.data.sampling import evenly
from concord.errors import ConcordError
from concord.metrics.measure_run import Measuring
from concord.models.encoder import Encoder
from concord.storage import images
from concord.storage.atomic import write_json

MOST, FEW, QUANTILE = 200, 20, 0.999
_BATCH, _SIDE = 32, 512
"""Images in memory at once, and the shorter side that they are embedded at; pixels are compared as they were read."""


@dataclass(frozen=True)
class _Seen:
    """Images by name: digests of their pixels, and unit embeddings (N, D) on the CPU."""

    names: list[str]
    digests: list[str]
    embeddings: Tensor


def measure(run: Measuring) -> dict[str, int] | None:
    """The metric `near_copies`, where concepts inform or images begin from others: leave near_copies.json, in short."""
    if run.concepts is None or not (run.concepts.used or run.recipe.pipeline.from_images):
        return None
    samples = (sample for variant in run.variants for sample in run.stored.samples(variant))
    made = ((sample.file, sample.image, sample.label, sample.source) for sample in samples)
    encoder, name = run.models.encoder, run.recipe.encoder
    record = near_copies(encoder, made, run.data, encoder_name=name, most=MOST, skip_unreadable=run.skip)
    write_json(run.out / "near_copies.json", record)
    return copies_summary(record)


def near_copies(
    encoder: Encoder,
    made: Iterable[tuple[str, Image.Image, int, str]],
    data: ImageSet,
    *,
    encoder_name: str,
    most: int = MOST,
    skip_unreadable: bool = False,
) -> dict[str, Any]:
    """Compare made images with the real ones of their class, and return what near_copies.json holds.

    made: (file, image, label, reference of its condition image or ""), read one by one; file is the place below the
    run's directory, as in ``images/dog/00000.png``. Variants may be mixed. most: real images a class to compare with,
    beside the condition images.

    `threshold`: class folder -> similarity above which an image is flagged (None: too few real images); `images`: file
    -> its nearest real image and what is said of the two; `duplicates`: groups of files of one variant with equal
    pixels.
    """
    conditions: list[tuple[int, str]] = []

    def pictures() -> Iterator[tuple[str, Image.Image]]:
        for file, picture, label, source in made:
            conditions.append((label, source))
            yield file, picture

    all_made = _see(encoder, pictures())
    of_class: dict[int, list[int]] = defaultdict(list)
    for row, (label, _) in enumerate(conditions):
        of_class[label].append(row)

    gaps, found = dict[int, Tensor](), dict[str, dict[str, Any]]()
    for label in sorted(of_class):  # class by class: the embeddings of all real images would be too many
        rows = of_class[label]
        real = _real(encoder, data, label, most, {conditions[row][1] for row in rows} - {""}, skip_unreadable)
        gaps[label] = _nearest_others(real)
        for row in rows:
            found[all_made.names[row]] = _compared(all_made, row, real, conditions[row][1])
    thresholds = _thresholds(gaps)
    for row, (label, _) in enumerate(conditions):
        one, threshold = found[all_made.names[row]], thresholds[label]
        one["flagged"] = one["same_pixels"] or (threshold is not None and one["similarity"] > threshold)
        one["similarity"] = round(one["similarity"], 4)
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, digest in zip(all_made.names, all_made.digests, strict=True):
        groups[name.partition("/")[0], digest].append(name)
    return {
        "encoder": encoder_name,
        "real_images_a_class": most,
        "threshold": {data.classes[c].folder: None if t is None else round(t, 4) for c, t in thresholds.items()},
        "images": {name: found[name] for name in all_made.names},
        "duplicates": [group for group in groups.values() if len(group) > 1],
    }


def copies_summary(record: Mapping[str, Any]) -> dict[str, int]:
    """The record in short, for results.json: images flagged, equal to a real one, equal to an earlier one, and all."""
    of_images = list(record["images"].values())
    return {
        "flagged": sum(one["flagged"] for one in of_images),
        "identical": sum(one["same_pixels"] for one in of_images),
        "duplicates": sum(len(group) - 1 for group in record["duplicates"]),
        "of": len(of_images),
    }


def pixel_digest(picture: Image.Image) -> str:
    """SHA-256 of an image's size and RGB pixels: equal for equal pictures, however they are stored."""
    return hashlib.sha256(repr(picture.size).encode() + picture.convert("RGB").tobytes()).hexdigest()


def _see(encoder: Encoder, named: Iterable[tuple[str, Image.Image]]) -> _Seen:
    names, digests, rows, stream = [], [], [], iter(named)
    with torch.no_grad():
        while some := list(islice(stream, _BATCH)):
            names += [name for name, _ in some]
            digests += [pixel_digest(picture) for _, picture in some]
            small = [images.shrunk(picture, _SIDE) for _, picture in some]
            rows += [encoder.images(pixels).cpu() for pixels in images.batches(small)]
    return _Seen(names, digests, torch.cat(rows) if rows else torch.empty(0, 0))


def _real(encoder: Encoder, data: ImageSet, label: int, most: int, conditions: set[str], skip: bool) -> _Seen:
    """Real images of a class: evenly spaced ones, and the condition images."""

    def pictures() -> Iterator[tuple[str, Image.Image]]:
        for item in sorted({*evenly(data.items(label), most), *conditions}):
            try:
                picture = data.read(item)
            except ConcordError:
                if skip:
                    continue
                raise
            yield item, picture

    seen = _see(encoder, pictures())
    if not seen.names:
        key = data.classes[label].key
        raise ConcordError(f'no image of the class "{key}" can be read to compare the made ones with')
    return seen


def _nearest_others(real: _Seen) -> Tensor:
    """The similarity of each real image with its nearest other one; those with equal pixels count as one image."""
    embeddings = real.embeddings[[real.digests.index(digest) for digest in dict.fromkeys(real.digests)]]
    if len(embeddings) < 2:
        return torch.empty(0)
    return (embeddings @ embeddings.T).fill_diagonal_(-1).amax(1)


def _thresholds(gaps: Mapping[int, Tensor]) -> dict[int, float | None]:
    """The similarity of each class that its real images hardly ever reach, from what `_nearest_others` says of each."""
    together = torch.cat(list(gaps.values())) if gaps else torch.empty(0)
    chosen = {label: gap if len(gap) >= FEW else together for label, gap in gaps.items()}
    return {label: float(torch.quantile(gap, QUANTILE)) if len(gap) else None for label, gap in chosen.items()}


def _compared(all_made: _Seen, row: int, real: _Seen, condition: str) -> dict[str, Any]:
    digest, similarity = all_made.digests[row], real.embeddings @ all_made.embeddings[row]
    same = digest in real.digests
    # Of equal pictures the condition image is named, and an equal one before one that is merely as near.
    equal = [name for name, other in zip(real.names, real.digests, strict=True) if other == digest]
    nearest = int(similarity.argmax())
    return {
        "nearest": (condition if condition in equal else equal[0]) if same else real.names[nearest],
        "similarity": float(similarity[nearest].clamp(-1, 1)),
        "same_pixels": same,
        "same_as_condition": condition in equal,
    }
