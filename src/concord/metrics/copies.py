"""Near copies: is a made image one of the real ones, or nearly?

Each is compared with real images of its class: by their pixels, and by cosine between embeddings. It is flagged above
the similarity that 99.9 % of the real images do not reach with their nearest other real image: a threshold of each
class's own, as classes differ in how alike their images are; where there are few images, that of all classes together.
Of 200 real images it is nearly their greatest similarity, so about one in a hundred images that copy nothing lies above
it too (held-out images of reef: 3 of 300).

It is evidence, not proof: a copy of a real image that was not looked at (there are `most` a class, evenly spaced, and
always the condition images) goes unseen unless another one is near. Equal pixels are always flagged.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from concord.metrics.class_images import ClassImages
from concord.metrics.measure_run import Measuring
from concord.models.encoder import Encoder
from concord.storage.atomic import write_json

MOST, FEW, QUANTILE = 200, 20, 0.999


@dataclass(frozen=True)
class Compared:
    """What is said of the made images of one class.

    found: file -> its row of near_copies.json, but for what the threshold decides. digests: of their pixels, by file.
    gaps: the similarity of each of the class's real images with its nearest other, (R,).
    """

    found: dict[str, dict[str, Any]]
    digests: dict[str, str]
    gaps: np.ndarray


def of_class(run: Measuring, of: ClassImages) -> Compared | None:
    """The made images of one class beside its real ones; None where nothing is to be compared."""
    return compared(run.models.encoder, of) if _applies(run) else None


def measure(run: Measuring) -> dict[str, int] | None:
    """The metric `near_copies`, where concepts inform or images begin from others: leave near_copies.json, in short."""
    if not _applies(run):
        return None
    files = [sample.file for variant in run.variants for sample in run.samples(variant)]
    found = {run.data.classes[label].folder: one for label, one in enumerate(run.parts("near_copies")) if one}
    record = {"encoder": run.recipe.encoder, "real_images_a_class": MOST, **near_copies(found, files)}
    write_json(run.out / "near_copies.json", record)
    return copies_summary(record)


def _applies(run: Measuring) -> bool:
    return run.concepts is not None and (run.concepts.used or run.recipe.pipeline.from_images)


def compared(encoder: Encoder, of: ClassImages, most: int | None = None) -> Compared | None:
    """Compare the made images of a class with real ones: `most` at most (`MOST`), and their condition images.

    None where none is made.
    """
    made = [one for some in of.made.values() for one in some]
    if not made:
        return None
    names = of.real(MOST if most is None else most, sorted({one.source for one in made} - {""}))
    embeddings, real = of.rows(encoder.images, made), of.rows(encoder.images, names)
    digests, of_real = of.digests(made), of.digests(names)
    found = {
        one.file: _beside(digest, row, one.source, names, of_real, real)
        for one, digest, row in zip(made, digests, embeddings, strict=True)
    }
    return Compared(found, {one.file: digest for one, digest in zip(made, digests, strict=True)}, _gaps(of_real, real))


def near_copies(classes: Mapping[str, Compared], files: Sequence[str]) -> dict[str, Any]:
    """What near_copies.json says of made images, from what was `compared` class by class.

    classes: by class folder. files: of all images, variant by variant.

    `threshold`: class folder -> similarity above which an image is flagged (None: too few real images); `images`: file
    -> its nearest real image and what is said of the two; `duplicates`: groups of files of one variant with equal
    pixels.
    """
    thresholds = _thresholds({folder: one.gaps for folder, one in classes.items()})
    images, digests = dict[str, dict[str, Any]](), dict[str, str]()
    for folder, of in classes.items():
        threshold = thresholds[folder]
        for file, one in of.found.items():
            one["flagged"] = one["same_pixels"] or (threshold is not None and one["similarity"] > threshold)
            one["similarity"] = round(one["similarity"], 4)
            images[file] = one
        digests |= of.digests
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        groups[file.partition("/")[0], digests[file]].append(file)
    return {
        "threshold": {folder: None if t is None else round(t, 4) for folder, t in thresholds.items()},
        "images": {file: images[file] for file in files},
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


def _gaps(digests: Sequence[str], embeddings: Tensor) -> np.ndarray:
    """The similarity of each real image with its nearest other one; those with equal pixels count as one image."""
    embeddings = embeddings[[digests.index(digest) for digest in dict.fromkeys(digests)]]
    if len(embeddings) < 2:
        return np.empty(0, np.float32)
    return (embeddings @ embeddings.T).fill_diagonal_(-1).amax(1).numpy()


def _thresholds(gaps: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """The similarity of each class that its real images hardly ever reach, from what `_gaps` says of each."""
    together = np.concatenate([*gaps.values()]) if gaps else np.empty(0, np.float32)
    chosen = {folder: gap if len(gap) >= FEW else together for folder, gap in gaps.items()}
    return {folder: float(np.quantile(gap, QUANTILE)) if len(gap) else None for folder, gap in chosen.items()}


def _beside(
    digest: str, embedding: Tensor, condition: str, names: Sequence[str], digests: Sequence[str], real: Tensor
) -> dict[str, Any]:
    """What is said of one made image and real ones, which have names, digests and embeddings (R, D)."""
    similarity = real @ embedding
    # Of equal pictures the condition image is named, and an equal one before one that is merely as near.
    equal = [name for name, other in zip(names, digests, strict=True) if other == digest]
    nearest = int(similarity.argmax())
    return {
        "nearest": (condition if condition in equal else equal[0]) if equal else names[nearest],
        "similarity": float(similarity[nearest].clamp(-1, 1)),
        "same_pixels": bool(equal),
        "same_as_condition": condition in equal,
    }
