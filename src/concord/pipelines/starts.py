"""What a sampling begins from where it is not noise alone: real images, prototypes, the images of another set."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from concord.choices import STARTS
from concord.data import ClassEntry
from concord.errors import ConcordError
from concord.pipelines.planned import Planned
from concord.pipelines.prototypes import Encodes, prototypes
from concord.runs.directory import Run, open_run
from concord.storage.images import fitted, to_pixels
from concord.text import counted


class StartSet:
    """The images of a finished set, by class: sample i of a class begins from image i of it.

    directory: of a run, whose classes are matched by folder or by name. key: of the recipe that names it. words: what
    else that may say.
    Raises ConcordError: it holds no run.
    """

    def __init__(self, directory: str, key: str = "pipeline.start", words: Sequence[str] = STARTS) -> None:
        if not Path(directory).is_dir():
            listed = ", ".join(words)
            raise ConcordError(f"{key}: there is no directory {directory}; expected {listed}, or a set's one")
        self._directory, self._key, run = directory, key, open_run(directory)
        self._files: dict[str, list[str]] = {}
        for sample in run.samples():
            for name in {sample.folder, sample.class_name}:
                self._files.setdefault(name, []).append(sample.file)

    def require(self, entry: ClassEntry, ipc: int, each: int = 1) -> None:
        """Raise a ConcordError where a class has too few images: none is begun from twice. each: images for each."""
        there = len(self._of(entry))
        if there < ipc * each:
            raise ConcordError(
                f"{self._key}: {self._directory} has {counted(there, 'image')} of {entry.key}, and ipc={ipc} asks"
                " for more; grow that set first, or give a smaller ipc"
            )

    def file(self, entry: ClassEntry, index: int) -> str:
        """The file, below the directory, that sample `index` of a class begins from."""
        files = self._of(entry)
        return files[index % len(files)]  # a batch that the IPC cuts asks beyond it

    def _of(self, entry: ClassEntry) -> list[str]:
        found = self._files.get(entry.folder) or self._files.get(entry.class_name)
        if not found:
            raise ConcordError(f"{self._key}: {self._directory} has no images of the class {entry.key}")
        return found


def start_images(batch: Planned) -> list[Image.Image]:
    """The images that a batch's samplings begin from; a ConcordError for prototypes, which are latents."""
    start = batch.settings.start
    if start == "prototype":
        raise ConcordError(
            "pipeline.start prototype needs a pipeline that the own sampler runs (docs/pipelines.md); take start=real"
        )
    if start in (None, "real"):
        return batch.sources
    run = Run(Path(str(start)))
    files = {sample.file: sample for sample in run.samples()}
    if gone := [sample.start for sample in batch.samples if sample.start not in files]:
        raise ConcordError(f"pipeline.start: {start} has no {gone[0]} any more; bring it back, or give another --out")
    return [files[sample.start].image for sample in batch.samples]


def start_latents(model: Encodes, batch: Planned) -> Tensor | None:
    """The latents (B, C, h, w), scheduler space, that a batch's samplings begin from; None for noise alone.

    Of images they are drawn from the autoencoder's posterior by the samples' own generators, before the noise is, as
    diffusers' image-to-image pipelines do.
    """
    if not batch.settings.from_images:
        return None
    if batch.settings.start == "prototype":
        return prototype_latents(model, batch, batch.settings.prototypes)
    return image_latents(model, start_images(batch), batch.generators)


def image_latents(
    model: Encodes, images: Sequence[Image.Image], generators: Sequence[torch.Generator] | None = None
) -> Tensor:
    """Images, cut to the model's shape, as latents (B, C, h, w); generators: see `encode`."""
    return model.encode(torch.stack([to_pixels(fitted(image, model.sides)) for image in images]), generators)


def prototype_latents(model: Encodes, batch: Planned, count: int) -> Tensor:
    """The prototype of each sample, (B, C, h, w): a class's samples take them by turns."""
    chosen = []
    for sample in batch.samples:
        of_class = prototypes(model, batch.data, sample.class_index, count, batch.seed, batch.skip_unreadable)
        chosen.append(of_class[sample.index % len(of_class)])
    return torch.stack(chosen)
