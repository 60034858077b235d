"""What a pretrained network does to an image before it sees it, as a differentiable function of pixels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from concord.errors import ConcordError
from concord.models.pretrained import loading

# Pillow's filter numbers, as processor configs hold them. torch has no Lanczos; bicubic is its nearest relative.
_FILTERS = {0: "nearest-exact", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "bilinear", 5: "bilinear"}


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop and normalise as a checkpoint's processor config says.

    These are never constants: `laion/CLIP-ViT-L-14-laion2B-s32B-b82K` has mean = std = 0.5, OpenAI's CLIP has not.
    resize: (height, width); one number for the shorter edge, aspect kept; None to leave the size alone. crop: (height,
    width) of the central crop, or None. mean, std: per channel, of values in `scale` times [0, 1], where `scale` is
    what white is before: 1.0, or 255.0 for the rare network that is fed bytes. mode: of
    `torch.nn.functional.interpolate`.
    """

    resize: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    mode: str = "bicubic"
    scale: float = 1.0

    @property
    def side(self) -> int | None:
        """Pixels of an image's shorter side that are seen; None where images of any size go in as they are."""
        edges = self.resize or self.crop
        return edges if edges is None or isinstance(edges, int) else max(edges)

    @classmethod
    def from_pretrained(cls, model: str, *, key: str = "encoder") -> Self:
        """Read `preprocessor_config.json` (or what replaced it); a ConcordError names the recipe's `key`."""
        # Only the settings are read: the processors themselves would need torchvision.
        from transformers.image_processing_base import ImageProcessingMixin

        with loading(model, key):
            config, _ = ImageProcessingMixin.get_image_processor_dict(model)
        return cls.from_config(config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The function that an image processor's settings describe."""
        size = config.get("size")
        if size is None and (patches := config.get("max_num_patches")):  # NaFlex, of a square as ours are
            size = {edge: math.isqrt(patches) * int(config["patch_size"]) for edge in ("height", "width")}
        resize = _size(size) if config.get("do_resize", True) else None
        edges = _size(config.get("crop_size")) if config.get("do_center_crop", False) else None
        crop = (edges, edges) if isinstance(edges, int) else edges
        processor = config.get("image_processor_type") or config.get("feature_extractor_type")  # the older key
        if isinstance(resize, int) and "ConvNext" in str(processor):
            # This processor (ResNets have it, too) enlarges small sizes for the crop and warps large ones.
            if resize < 384:
                crop = (resize, resize)
                resize = int(resize / (config.get("crop_pct") or 224 / 256))
            else:
                resize = (resize, resize)
        scale = 255.0 * (config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0)
        if not config.get("do_normalize", True):
            return cls(resize, crop, mode=_mode(config), scale=scale)
        mean, std = (_channels(config, name) for name in ("image_mean", "image_std"))
        return cls(resize, crop, mean, std, _mode(config), scale)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Network input (B, 3, h, w) from images (B, 3, H, W) in [-1, 1]; float32, or float64 where given it.

        Nothing is clamped, so that gradients also reach pixels that overshoot the range. The resize is antialiased and
        left out where the size fits already. Raises ConcordError: the image is smaller than the crop.
        """
        if pixels.dtype != torch.float64:
            pixels = pixels.float()
        images = _centre(_resized(pixels, self.resize, self.mode), self.crop)
        mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return ((images + 1) * (self.scale / 2) - mean) / std


def _resized(images: Tensor, size: tuple[int, int] | int | None, mode: str) -> Tensor:
    height, width = images.shape[-2:]
    if isinstance(size, int):
        short = min(height, width)
        size = (size * height // short, size * width // short)
    if size is None or size == (height, width):
        return images
    smooth: dict[str, bool] = {} if mode == "nearest-exact" else {"align_corners": False, "antialias": True}
    return F.interpolate(images, size, mode=mode, **smooth)


def _centre(images: Tensor, crop: tuple[int, int] | None) -> Tensor:
    if crop is None:
        return images
    height, width = images.shape[-2:]
    if height < crop[0] or width < crop[1]:
        raise ConcordError(f"an image of {height} x {width} pixels is smaller than the encoder's crop of {crop}")
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    return images[..., top : top + crop[0], left : left + crop[1]]


def _size(value: Any) -> tuple[int, int] | int | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping) and value.get("height") and value.get("width"):
        return int(value["height"]), int(value["width"])
    if isinstance(value, Mapping) and value.get("shortest_edge") and not value.get("longest_edge"):
        return int(value["shortest_edge"])
    raise ConcordError(f"image processor size {value!r} is not understood; expected height and width, or shortest_edge")


def _channels(config: Mapping[str, Any], name: str) -> tuple[float, ...]:
    value = config.get(name)
    if value is None:
        raise ConcordError(f"the image processor config normalises but has no {name}")
    return tuple(float(v) for v in value) if isinstance(value, list | tuple) else (float(value),) * 3


def _mode(config: Mapping[str, Any]) -> str:
    number = config.get("resample", 3)
    if number not in _FILTERS:
        raise ConcordError(f"image processor resample {number!r} is not one of Pillow's filters {sorted(_FILTERS)}")
    return _FILTERS[number]
