"""Random views of a batch: what is random is drawn first, as small tensors on the CPU, and applied on the device.

So it can be saved and replayed: a soft label belongs to one view. The steps, in this order: patch shuffle, random
resized crop (or a plain resize), padded crop, flip, colour jitter, lighting, DSA. The first four are separable: each
axis of an image is one small matrix, so that all of it is two batched matrix products (`_axis`).
"""

import math
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from concord.choices import dsa_strategy
from concord.data import dsa
from concord.data.space import Space
from concord.errors import ConcordError

View = dict[str, Tensor]
"""All that is random about a batch, by name: small tensors on the CPU, which safetensors can hold."""
_DRAWN = {
    "patch_shuffle": {"columns", "rows"},  # (n, factor) which strip comes first, second, ...
    "crop": {"crop"},  # (n, 4) top, left, height, width
    "pad_crop": {"shift"},  # (n, 2) rows down, columns right, from -pad to pad
    "flip": {"flip"},  # (n,) bool
    "color": {"jitter"},  # (n, 3) factors of brightness, contrast, saturation
    "lighting": {"lighting"},  # (n, 3) one amplitude for each eigenvector
    "dsa": {"dsa_family", "dsa"},  # (), (n, 3): see dsa.py
}
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10
_GREY = (0.299, 0.587, 0.114)
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))  # as columns


class Augment(BaseModel):
    """Which steps a view has; the default has none.

    patch_shuffle: strips of columns, then of rows, in random orders (RDED's factor); 0 or 1, none. The last strip takes
    a side's remainder (RDED's code drops it; the sides in its protocol have none). crop: range of the area of a random
    resized crop, of aspect ratios from 3/4 to 4/3; null resizes alone. pad_crop: zeros around the image, in pixels,
    before a random crop of its size (CIFAR's is 4). flip: left to right, for half of the images. color: brightness,
    contrast and saturation by factors from 1 - color to 1 + color (IDC and Minimax: 0.4). lighting: standard deviation
    of AlexNet's PCA noise (IDC and Minimax: 0.1). dsa: a strategy, such as ``color_crop_cutout_flip_scale_rotate``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    patch_shuffle: Annotated[int, Field(ge=0, le=255)] = 0
    crop: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] | None = None
    pad_crop: Annotated[int, Field(ge=0, le=1000)] = 0
    flip: bool = False
    color: Annotated[float, Field(ge=0, le=1)] = 0
    lighting: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    dsa: str = ""

    @field_validator("crop")
    @classmethod
    def _ordered(cls, crop: tuple[float, float] | None) -> tuple[float, float] | None:
        if crop is not None and crop[0] > crop[1]:
            raise ValueError(f"expected the smaller share of the area first, got {list(crop)}")
        return crop

    @field_validator("dsa")
    @classmethod
    def _known(cls, strategy: str) -> str:
        return dsa_strategy(strategy)


def draw(settings: Augment, n: int, height: int, width: int, generator: torch.Generator) -> View:
    """Draw the view of n images of height x width, by a generator on the CPU; a patch shuffle's strips must fit in."""
    view: View = {}
    if (factor := settings.patch_shuffle) > 1:
        if factor > min(height, width):
            raise ConcordError(f"patch_shuffle: {factor} strips do not fit in images of {height} x {width} px")
        for name in ("columns", "rows"):
            # Sorting random numbers gives every order the same chance.
            view[name] = _uniform(n, factor, generator=generator).argsort(dim=1).to(torch.uint8)
    if settings.crop is not None:
        view["crop"] = _crops(settings.crop, n, height, width, generator)
    if pad := settings.pad_crop:
        view["shift"] = torch.randint(-pad, pad + 1, (n, 2), generator=generator, dtype=torch.int16)
    if settings.flip:
        view["flip"] = _uniform(n, generator=generator) < 0.5
    if settings.color:
        view["jitter"] = (1 + settings.color * (2 * _uniform(n, 3, generator=generator) - 1)).float()
    if settings.lighting:
        view["lighting"] = settings.lighting * torch.randn(n, 3, generator=generator)
    if settings.dsa:
        view |= dsa.draw(settings.dsa, n, generator)
    return view


@torch.no_grad()
def apply(
    settings: Augment,
    images: Tensor,
    view: View,
    size: int,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    space: Space | None = None,
) -> Tensor:
    """Show images as the view has them: (N, C, H, W), uint8 or float in [0, 1], to float32 (N, C, size, size).

    Pixels are in [0, 1], but that jitter, lighting and DSA may leave it: like their authors' code, nothing is clamped.
    mean, std: (3,) with which the student normalises. DSA was defined on normalised pixels, and is exact only with
    them; without, it takes the pixels as they are (its blanks are then black, not the mean). space: of float images
    whose values are no pixels; jitter and lighting are of colours, and find them by it. A padded crop's zeros are zeros
    of the space.
    """
    used = {**dict(settings), "patch_shuffle": settings.patch_shuffle > 1}
    expected = {name for key, names in _DRAWN.items() if used[key] for name in names}
    found = set(view) & set().union(*_DRAWN.values())
    if found != expected:
        raise ConcordError(
            f"this view was drawn with other settings: it holds {', '.join(sorted(found)) or 'nothing'}, expected"
            f" {', '.join(sorted(expected)) or 'nothing'}; draw it anew"
        )
    # A scalar stays on the CPU, which reads it; to ask the device for it would wait for all that the device has to do.
    view = {name: to_device(view[name], images.device) if view[name].dim() else view[name] for name in found}
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    # Half precision would move pixels by more than their last bit: views stay as they are within an autocast region.
    with torch.autocast(images.device.type, enabled=False):
        pixels = _geometry(pixels, view, size)
        coloured = space is not None and view.keys() & {"jitter", "lighting"}
        if space is not None and coloured:
            pixels = space.pixels(pixels)
        if "jitter" in view:
            pixels = _jitter(pixels, view["jitter"])
        if "lighting" in view:
            pixels = pixels + _lit(view["lighting"], pixels.shape[1])
        if space is not None and coloured:
            pixels = space.of_pixels(pixels)
        if "dsa" in view:
            pixels = dsa.apply(pixels, view, mean, std)
    return pixels


def _lit(amplitudes: Tensor, channels: int) -> Tensor:
    """What lighting (N, 3) adds, (N, C, 1, 1): to one channel, the brightness of what three would get."""
    values, vectors = (to_device(torch.tensor(v), amplitudes.device) for v in (_EIGENVALUES, _EIGENVECTORS))
    added = (amplitudes * values) @ vectors.T
    if channels == 1:
        added = (added * to_device(torch.tensor(_GREY), added.device)).sum(dim=1, keepdim=True)
    return added[:, :, None, None]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring a small tensor from the CPU to a device; a GPU is not waited for, which a plain copy does."""
    return tensor.to(device, non_blocking=device.type == "cuda")


def _uniform(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def _crops(scale: tuple[float, float], n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw (n, 4) boxes (top, left, height, width) as torchvision's `RandomResizedCrop.get_params` does.

    The first of ten tries that fits in the image is taken, else the central crop nearest to the ratios.
    """
    u = _uniform(n, _TRIES, 2, generator=generator)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[..., 0])
    low, high = map(math.log, _RATIO)
    ratio = torch.exp(low + (high - low) * u[..., 1])
    sides = torch.stack([(area / ratio).sqrt().round(), (area * ratio).sqrt().round()], dim=-1)  # (n, tries, 2)
    whole = torch.tensor([height, width], dtype=torch.float64)
    fits = ((sides > 0) & (sides <= whole)).all(dim=-1)
    sides = sides[torch.arange(n), fits.to(torch.uint8).argmax(dim=1)]
    corner = (_uniform(n, 2, generator=generator) * (whole - sides + 1)).floor()
    fallback = torch.tensor([min(height, round(width / _RATIO[0])), min(width, round(height * _RATIO[1]))])
    lost = ~fits.any(dim=1, keepdim=True)
    sides = torch.where(lost, fallback, sides)
    corner = torch.where(lost, (whole - fallback) // 2, corner)
    return torch.cat([corner, sides], dim=1).to(torch.int16)


def _geometry(images: Tensor, view: View, size: int) -> Tensor:
    """Patch shuffle, crop or resize, padded crop and flip of (N, 3, H, W): two products with matrices of the axes."""
    height, width = images.shape[2:]
    if (height, width) == (size, size) and not view.keys() & {"columns", "crop", "shift", "flip"}:
        return images
    top, left, crop_height, crop_width = (
        view["crop"].float().unbind(1)
        if "crop" in view
        else to_device(torch.tensor([[0.0], [0.0], [height], [width]]), images.device)  # one for all
    )
    down, right = view["shift"].unbind(1) if "shift" in view else (0, 0)
    rows = _axis(height, size, top, crop_height, view.get("rows"), down, None)
    columns = _axis(width, size, left, crop_width, view.get("columns"), right, view.get("flip"))
    return rows[:, None] @ images @ columns[:, None].mT


def _axis(
    length: int, size: int, start: Tensor, span: Tensor, order: Tensor | None, shift: Tensor | int, flip: Tensor | None
) -> Tensor:
    """The matrix (n, size, length) that one axis of an image is multiplied by; n is 1 where all have the same.

    start, span: (n,) the crop. Resizing is bilinear with antialiasing, as in torch's `interpolate`: a triangle
    around the output pixel's centre, widened by the scale where that shrinks, over the crop's pixels alone, summing
    to 1. order: (n, factor) strips of a patch shuffle, which moves the pixels that the crop is taken from. shift: (n,)
    where the padded crop looks, zero outside the resized image.
    """
    device = start.device
    shown = torch.arange(size, device=device)  # pixel of the resized crop that an output pixel shows
    if flip is not None:
        shown = torch.where(flip[:, None], size - 1 - shown, shown)
    if isinstance(shift, Tensor):
        shown = shown + shift[:, None]
    lies = torch.arange(length, device=device)  # where a pixel of the stored image lies in the shuffled one
    if order is not None:
        factor = order.shape[1]
        strip = (lies // (length // factor)).clamp(max=factor - 1)  # the last one takes the remainder
        place = order.argsort(dim=1)  # (n, factor) how many strips come before each
        starts = length // factor * place + length % factor * (place > place[:, -1:])
        lies = starts[:, strip] + lies - length // factor * strip
    scale = (span / size)[:, None, None]
    position = (lies.float() + 0.5).view(-1, 1, length) - start[:, None, None]
    centre = scale * (shown.float() + 0.5).view(-1, size, 1)
    weights = (1 - (position - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((position > 0) & (position < span[:, None, None]))
    weights = weights * ((shown >= 0) & (shown < size)).view(-1, size, 1)
    # A centre within the crop has a pixel within half a step, so that only rows outside the image sum to less.
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=0.25)


def _jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Colour jitter of (N, 3, H, W) by (N, 3) factors of brightness, contrast and saturation.

    In the form of IDC and Minimax (`misc/utils.py`): brightness blends with black, contrast with the mean of the grey
    image, saturation with the grey image, in a random order, and nothing is clamped. So the order makes no difference:
    the grey weights sum to 1, hence saturation keeps the grey image, contrast its mean, and brightness scales both.
    torchvision's `adjust_*` do the same, but clamp to [0, 1] after each and weigh grey by 0.2989, 0.587 and 0.114.
    """
    brightness, contrast, saturation = (f[:, None, None, None] for f in factors.unbind(1))
    weights = to_device(torch.tensor(_GREY if images.shape[1] == 3 else (1.0,)), images.device)
    grey = (images * weights[:, None, None]).sum(dim=1, keepdim=True)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    rest = brightness * (contrast * (1 - saturation) * grey + (1 - contrast) * middle)
    return brightness * contrast * saturation * images + rest
