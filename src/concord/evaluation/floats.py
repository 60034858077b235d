"""Float images under a protocol: which a path names, test images in their space, what a protocol cannot do there."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from concord.choices import TENSORS
from concord.data import ImageSet, open_data, restrict
from concord.data.peer_files import open_peer_file, peer_file
from concord.data.space import Space, fit_zca
from concord.data.tensor_set import FORM, TensorImages, open_tensors
from concord.data.tensors import TensorSet, for_training, load, of_channels
from concord.errors import ConcordError
from concord.evaluation.settings import ProtocolConfig, Settings, TensorSettings

Read = Callable[[int, int], TensorSet]
"""Size of an image, and the side that its shorter one is brought to before the crop, to the test images so."""


def open_floats(place: Path, settings: Settings) -> ImageSet | None:
    """The float images that a path names: a run or export that holds them, their file, or one of another method's code.

    Raises ConcordError: there should be some but they are damaged, or settings say what the file says itself.
    """
    path = place / TENSORS if place.is_dir() else place
    if path.is_file() and path.suffix == ".safetensors":
        if said := settings.tensors.model_dump(exclude_defaults=True):
            raise ConcordError(f"tensors.{next(iter(said))}: {path} says it itself; leave it out")
        return restrict(open_tensors(path), settings.classes, {})
    if (place / FORM).is_file():
        again = f"give the same `concord distill` command again, or name its 8-bit previews, {place / 'images'}"
        raise ConcordError(f"{place} has no {TENSORS} yet: it is not finished; {again}")
    if (theirs := peer_file(place)) is None:
        return None
    given = settings.tensors
    return open_peer_file(theirs, settings.classes, _space(given, settings), given.decode, given.experiment)


def _space(given: TensorSettings, settings: Settings) -> Space | str | Callable[[int, int], Space] | None:
    if given.mean is not None and given.std is not None:
        return Space.normalised(given.mean, given.std)
    if given.zca is None:
        return given.space
    real = open_data(given.zca, grey_range=settings.grey_range, max_pixels=settings.max_pixels)

    def whitened(channels: int, side: int) -> Space:
        return fit_zca(of_channels(load(real, for_training(side)).images, channels))

    return whitened


def within(tested_on: Read, whole: TensorImages | None) -> Read:
    """Test images as students of `whole` see them: in its space, with its channels; as they are where it has none."""
    if whole is None or (space := whole.space) is None:
        return tested_on
    return cache(lambda size, resize: tested_on(size, resize).within(space, whole.channels))


def own_channels(whole: TensorImages | None) -> int | None:
    """Channels of images whose space is not normalised by students; None of pictures, and of pixels."""
    return whole.channels if whole and whole.space else None


def fitted(way: ProtocolConfig, whole: TensorImages | None) -> ProtocolConfig:
    """A protocol as it is used: on float images SGD takes the rate that was learnt with them, unless one was set.

    Raises ConcordError: whitened images have no colours that it could change, and none that a teacher knows.
    """
    if whole is None:
        return way
    protocol, rate = way.protocol, whole.form.rate
    if whole.form.space.whitened:
        if protocol.labels == "soft":
            why = "has a teacher label views of whitened images, which it does not know"
            raise ConcordError(f"protocol {protocol.name} {why}; give protocol=fixed, or protocol=dc")
        if protocol.augment.color or protocol.augment.lighting:
            off = "augment.color=0 augment.lighting=0"
            raise ConcordError(f"protocol {protocol.name} changes colours, and whitened images have none; give {off}")
    if rate is None or protocol.optimiser != "sgd" or "lr" in way.given:
        return way
    return replace(way, protocol=protocol.model_copy(update={"lr": rate}), changed={**way.changed, "lr": rate})


def require_side(whole: TensorImages | None, size: int) -> None:
    """Raise ConcordError: students see whitened images smaller or larger, and only whole ones are whitened."""
    if whole and whole.form.space.whitened and size != whole.side:
        raise ConcordError(f"whitened images of {whole.side} px cannot be shown at {size}; give size={whole.side}")


def facts(whole: TensorImages) -> dict[str, Any]:
    """What a cell's record says of the float images that it was trained on."""
    form = whole.form
    return {
        "space": "zca" if form.space.whitened else "pixels" if form.space.is_pixels else "normalised",
        "channels": whole.channels,
        "decode": form.decode,
        "rate": form.rate,
        "soft": whole.soft is not None,
    }
