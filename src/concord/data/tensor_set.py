"""Sets whose images are floats, as matching methods leave them: one safetensors file, or an `ImageSet` of its previews.

docs/formats.md has every key of the file. The images of others' files come by `concord.data.peer_files`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from torch import Tensor
from torch.nn import functional as F

from concord.data import ClassEntry, ClassSpec, ClassTable, ImageSet, Relabelled, class_table
from concord.data.space import Space
from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.storage.atomic import write_atomically

FORM = "tensors/form.safetensors"
"""Where a run that is not finished keeps what its tensors are."""
SCHEMA = 1


@dataclass(frozen=True)
class TensorForm:
    """What float images are of beside themselves.

    Args:
        space: what their values are.
        decode: each image holds decode x decode images, cut out and scaled up before a student sees them (IDC, IDM).
        rate: the learning rate that was learnt with them, for students trained by SGD (MTT).
        dtype: how they are stored.
    """

    space: Space
    decode: int = 1
    rate: float | None = None
    dtype: Literal["float32", "float16"] = "float32"


@dataclass(eq=False, repr=False)
class TensorImages:
    """Float images by class; an `ImageSet` whose pictures are 8-bit previews.

    images: float32 (N, C, S, S) in the form's space. labels: int64 (N,), places in `classes`. soft: float32 (N, K),
    rows that sum to 1, or None. A reference is ``FOLDER/00000``, the class's folder and the image's number in it.
    """

    images: Tensor
    labels: Tensor
    classes: ClassTable
    form: TensorForm
    soft: Tensor | None = None
    notes: Sequence[str] = ()
    known_details = None

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Where the image of a reference is."""
        found = {}
        for entry in self.classes:
            for number, place in enumerate((self.labels == entry.label).nonzero().flatten().tolist()):
                found[f"{entry.folder}/{number:05d}"] = place
        return found

    @cached_property
    def _items(self) -> Sequence[Sequence[str]]:
        found: list[list[str]] = [[] for _ in self.classes]
        for item, place in self.places.items():
            found[int(self.labels[place])].append(item)
        return found

    @cached_property
    def fingerprint(self) -> str:
        return TensorSet(self.images, self.labels, self.form.space, self.soft).digest

    @property
    def channels(self) -> int:
        return int(self.images.shape[1])

    @property
    def space(self) -> Space | None:
        """The space that students see, and are not to normalise; None of pixels of three channels."""
        return None if self.form.space.is_pixels and self.channels == 3 else self.form.space

    @property
    def side(self) -> int:
        return int(self.images.shape[-1])

    def items(self, class_index: int) -> Sequence[str]:
        return self._items[class_index]

    def read(self, item: str) -> Image.Image:
        return self.form.space.picture(self.images[self.places[item]])

    def size(self, item: str) -> tuple[int, int]:
        return self.side, self.side


def floats(data: ImageSet) -> TensorImages | None:
    """The float images that a set's pictures are previews of; None of pictures."""
    while isinstance(data, Relabelled):
        data = data.whole
    return data if isinstance(data, TensorImages) else None


def load_floats(data: ImageSet, whole: TensorImages, ipc: int | None = None, side: int | None = None) -> TensorSet:
    """The images that a student is trained on, in the order of label and reference, decoded.

    data: `whole`, or some of its classes. ipc: so many stored images of each class, the first. side: brought to it.
    Raises ConcordError: a class has fewer.
    """
    labels, places = [], []
    for entry in data.classes:
        items = data.items(entry.label)
        if ipc is not None and len(items) < ipc:
            raise ConcordError(f'the class "{entry.key}" has {len(items)} images, fewer than ipc={ipc}')
        labels += [entry.label] * len(items[:ipc])
        places += [whole.places[item] for item in items[:ipc]]
    if not places:
        raise ConcordError("the data hold no images")
    if whole.soft is not None and len(data.classes) < len(whole.classes):
        raise ConcordError("the set's labels are probabilities of all its classes; leave classes= out")
    factor = whole.form.decode
    # A picture's middle grey stands for what a side lacks to be a multiple of the factor, as in IDC's code.
    grey = whole.form.space.of_pixels(torch.full((1, *whole.images.shape[1:]), 0.5))
    images = decoded(whole.images[torch.tensor(places)], factor, grey)
    if side is not None and side != images.shape[-1]:
        images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
    repeated = torch.tensor(labels).repeat_interleave(factor**2)
    soft = None if whole.soft is None else whole.soft[torch.tensor(places)].repeat_interleave(factor**2, dim=0)
    return TensorSet(images, repeated, whole.space, soft)


def decoded(images: Tensor, factor: int, grey: Tensor | float = 0.0) -> Tensor:
    """Images (N, C, S, S) as the factor x factor parts of each, row by row, each scaled up to S (bilinear).

    Returns (N factor^2, C, S, S), an image's parts together. A side that is no multiple of the factor is padded at its
    end, by `grey` (1, C, S, S) or a number. IDC (Kim et al. 2022) and, with a factor of 2, IDM (Zhao et al. 2023).
    """
    if factor == 1:
        return images
    count, channels, side = images.shape[:3]
    part = -(-side // factor)
    whole = torch.empty(count, channels, part * factor, part * factor, dtype=images.dtype)
    whole[:] = grey.mean((2, 3), keepdim=True) if isinstance(grey, Tensor) else grey
    whole[..., :side, :side] = images
    parts = whole.view(count, channels, factor, part, factor, part).permute(0, 2, 4, 1, 3, 5)
    return F.interpolate(parts.reshape(-1, channels, part, part), (side, side), mode="bilinear", align_corners=False)


def encoded(parts: Tensor, factor: int) -> Tensor:
    """Images (N factor^2, C, S, S), each brought to a part of an image (N, C, S, S): what `decoded` cuts out again.

    Each is averaged over squares of factor x factor pixels; at a factor of 2 this is bilinear, as IDM has it. S is a
    multiple of the factor.
    """
    if factor == 1:
        return parts
    count, channels, side = len(parts) // factor**2, *parts.shape[1:3]
    small = F.avg_pool2d(parts, factor).view(count, factor, factor, channels, side // factor, side // factor)
    return small.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, side, side)


class _Class(BaseModel):
    folder: Annotated[str, Field(min_length=1)]
    name: str
    wnid: str | None = None


class _Header(BaseModel):
    """The file's header, as one JSON text: the library would write several in random order, and the bytes differ."""

    model_config = ConfigDict(allow_inf_nan=False)

    schema_: Annotated[Literal[1], Field(alias="schema")]
    decode: PositiveInt = 1
    rate: PositiveFloat | None = None
    dtype: Literal["float32", "float16"] = "float32"
    classes: list[_Class] = []


def save_form(path: Path, form: TensorForm) -> None:
    """Write what images are of, without any; `open_form` reads it."""
    _write(path, {}, form, ())


def open_form(path: Path) -> TensorForm:
    """Read what `save_form` wrote. Raises ConcordError: the file is damaged."""
    return _opened(path)[1]


def save_tensors(
    path: Path, images: Tensor, labels: Tensor, classes: ClassTable, form: TensorForm, soft: Tensor | None = None
) -> None:
    """Write a set of float images, see `TensorImages`: whole or not at all."""
    tensors = {"images": images.to(getattr(torch, form.dtype)), "labels": labels}
    _write(path, tensors if soft is None else {**tensors, "soft": soft}, form, classes)


def open_tensors(path: Path) -> TensorImages:
    """Read a set of float images. Raises ConcordError: the file is none, or what it holds does not fit together."""
    tensors, form, classes = _opened(path)
    if "images" not in tensors or "labels" not in tensors or not classes:
        raise damaged(path, "it holds no images, labels and classes, as concord leaves them")
    table = class_table(ClassSpec(one.folder, one.name, one.wnid) for one in classes)
    if [entry.folder for entry in table] != [one.folder for one in classes]:
        raise damaged(path, "its classes are not in the order of their folders")
    return checked(str(path), tensors["images"], tensors["labels"], table, form, tensors.get("soft"))


def _write(path: Path, tensors: dict[str, Tensor], form: TensorForm, classes: Iterable[ClassEntry]) -> None:
    from safetensors.torch import save

    named = [_Class(folder=entry.folder, name=entry.class_name, wnid=entry.wnid) for entry in classes]
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "decode": form.decode,
        "rate": form.rate,
        "dtype": form.dtype,
        "classes": named,
    }
    header = _Header.model_validate(facts).model_dump_json(by_alias=True)
    tensors = {name: tensor.contiguous() for name, tensor in (tensors | form.space.tensors()).items()}
    write_atomically(path, save(tensors, {"concord": header}))


def _opened(path: Path) -> tuple[dict[str, Tensor], TensorForm, list[_Class]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            head = (file.metadata() or {}).get("concord", "")
    except (OSError, SafetensorError) as cause:
        raise ConcordError(f"{path} is no safetensors file, or a torn one: {cause}") from cause
    try:
        header = _Header.model_validate_json(head)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "concord"
        raise damaged(path, f"its header's {where}: {first['msg']}") from error
    if (space := Space.of_tensors(tensors)) is None:
        raise damaged(path, "its mean and std, or zca.mean and zca.matrix, are missing or of odd shapes")
    return tensors, TensorForm(space, header.decode, header.rate, header.dtype), header.classes


def checked(
    name: str,
    images: Tensor,
    labels: Tensor,
    classes: ClassTable,
    form: TensorForm,
    soft: Tensor | None = None,
    notes: Sequence[str] = (),
) -> TensorImages:
    """A set whose parts were found to fit. name: what the error calls it. Raises ConcordError: they do not."""
    shape, count = tuple(images.shape), len(classes)
    if images.ndim != 4 or shape[1] not in (1, 3) or shape[2] != shape[3] or not shape[0]:
        raise damaged(name, f"its images are {shape}, where squares (N, 1 or 3, S, S) are expected")
    if images.dtype not in (torch.float16, torch.float32, torch.float64) or not bool(images.isfinite().all()):
        raise damaged(name, f"its images are {images.dtype} or not finite, where floats are expected")
    if labels.shape != shape[:1] or labels.is_floating_point():
        raise damaged(name, f"its labels are {tuple(labels.shape)} of {labels.dtype}, where {shape[0]} integers are")
    if int(labels.min()) < 0 or int(labels.max()) >= count:
        raise damaged(name, f"its labels reach from {int(labels.min())} to {int(labels.max())} among {count} classes")
    values = shape[1] if form.space.matrix is None else shape[1] * shape[2] * shape[3]
    if len(form.space.mean) != values:
        raise damaged(name, f"its space is of {len(form.space.mean)} values, and an image has {values}")
    if not 1 <= form.decode <= shape[-1]:
        raise damaged(name, f"decode={form.decode}: an image of {shape[-1]} px has no so many parts")
    if soft is not None and (soft.shape != (shape[0], count) or not bool((soft >= 0).all())):
        raise damaged(name, f"its soft labels are {tuple(soft.shape)}, where {(shape[0], count)} shares are expected")
    return TensorImages(images.float(), labels.long(), classes, form, None if soft is None else soft.float(), notes)


def damaged(name: str | Path, why: str) -> ConcordError:
    return ConcordError(f"{name} is no set of float images: {why}")
