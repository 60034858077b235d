"""Students: networks of the field by name, that take pixels as they are and normalise them inside."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from concord.errors import ConcordError
from concord.models.networks import WIDTH, ConvNet, ResNetAP10, instance_resnet, modified_resnet, with_channels
from concord.text import nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NAMES = (
    *(f"convnet-{depth}" for depth in range(1, 7)),
    *("resnet-18", "resnet-50", "resnet-101", "resnet-18-modified", "resnet-101-modified", "resnetap-10"),
)
_ALIASES = {
    r"conv(?:net)?-?d?([1-6])": "convnet-{}",
    r"resnet-?(18|50|101)": "resnet-{}",
    r"resnet-?(18|101)-?mod(?:ified)?": "resnet-{}-modified",
    r"resnet-?ap-?10": "resnetap-10",
}


@dataclass(frozen=True)
class StudentForm:
    """All that a student is built from: the same form gives the same network, untrained.

    name: canonical. size: pixels of an image's side. norm, pool, width: None where the network has no such choice.
    mean, std: per channel, of pixels in [0, 1]; as many as an image has channels, one or three.
    """

    name: str
    classes: int
    size: int
    norm: str | None = None
    pool: str | None = None
    width: int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


class Student(nn.Module):
    """A classifier of pixels in [0, 1]: `net` behind its normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, form: StudentForm) -> None:
        super().__init__()
        self.net = net
        self.form = form
        self.register_buffer("mean", torch.tensor(form.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(form.std).view(1, -1, 1, 1))

    @property
    def name(self) -> str:
        return self.form.name

    @property
    def size(self) -> int:
        return self.form.size

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, size, size) in [0, 1], or of what mean and std make normalised."""
        return self.net((pixels - self.mean) / self.std)

    def features(self, pixels: Tensor) -> Tensor:
        """What the last layer is given, (B, D): pooled and flattened, differentiable."""
        return layer_input(self.net.get_submodule(head(self.net, self.form.classes)), lambda: self(pixels))


def build_student(
    name: str,
    classes: int,
    size: int,
    *,
    norm: str | None = None,
    pool: str | None = None,
    width: int | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Student:
    """Build an untrained student from torch's global random state; a ConcordError says what it does not take.

    name: one of `NAMES`, ``timm:NAME``, ``torchvision:NAME``, or an alias that `canonical` knows. size: pixels of the
    side of its images. norm: of a ConvNet batch (the default, as in RDED), instance (the dataset-condensation tables),
    layer, group or none; of a resnetap-10 instance (the default) or batch; of a resnet-18, -50 or -101 batch (the
    default, as torchvision has them) or instance (Minimax's, whose first layer follows the size). pool: of a ConvNet
    avg (the default), max or none. width: channels of a ConvNet, 128 by default. mean, std: for the normalisation
    inside, of pixels in [0, 1], of as many channels as an image has.
    """
    name, channels = canonical(name), len(mean)
    convnet, plain = name.startswith("convnet-"), re.fullmatch(r"resnet-\d+", name)
    for key, given in (("norm", norm), ("pool", None if pool == "avg" else pool), ("width", width)):
        if given is not None and not (has_norm(name) if key == "norm" else convnet):
            raise ConcordError(f"{name} has no choice of {key}, but {key}={given} is given; leave {key} out")
    if classes < 1 or size < 1:
        raise ConcordError(f"a student needs at least one class and one pixel, got classes={classes}, size={size}")
    net: nn.Module
    if convnet:
        norm, pool, width = norm or "batch", pool or "avg", width or WIDTH
        net = ConvNet(int(name[-1]), classes, size, norm, pool, width, channels)
    elif name == "resnetap-10":
        norm = norm or "instance"
        net = ResNetAP10(classes, size, norm)
    elif name.endswith("-modified"):
        net = modified_resnet(int(name.split("-")[1]), classes)
    elif plain and norm == "instance":
        net = instance_resnet(int(name.split("-")[1]), classes, size)
    elif plain:
        if norm not in (None, "batch"):
            raise ConcordError(f'{name} has no norm "{norm}"; it is batch or instance')
        net, norm = _torchvision(name.replace("-", ""), classes, size), None
    else:
        source, _, model = name.partition(":")
        if channels != 3 and source != "timm":
            raise ConcordError(f"{name} takes images of three channels; give a convnet, a resnet or timm:NAME")
        with taking(name, size):
            net = _timm(model, classes, size, channels) if source == "timm" else _torchvision(model, classes, size)
        check_forward(net, name, classes, size, channels)
    if not convnet and channels != 3 and ":" not in name:
        with_channels(net, channels)
    return Student(net, StudentForm(name, classes, size, norm, pool if convnet else None, width, mean, std))


def canonical(name: str) -> str:
    """The one name of a student (``conv3`` is convnet-3, ``mobilenet_v2`` torchvision's), or a ConcordError."""
    word = re.sub(r"[\s_-]+", "-", name.strip().casefold())
    source, colon, model = name.strip().partition(":")
    if colon:
        if (source := source.casefold()) not in ("timm", "torchvision"):
            raise ConcordError(f'unknown student "{name}"; a name with a colon is timm:NAME or torchvision:NAME')
        if model.split(".")[0] not in (names := _library(source)):  # timm's tag, as in resnet18.a1_in1k, is in a name
            raise ConcordError(f'{source} has no model "{model}"{nearest(model, names)}')
        return f"{source}:{model}"
    for pattern, form in _ALIASES.items():
        if found := re.fullmatch(pattern, word):
            return form.format(*found.groups())
    others = _library("torchvision")
    if word.replace("-", "_") in others:
        return f"torchvision:{word.replace('-', '_')}"
    raise ConcordError(
        f'unknown student "{name}"{nearest(word, (*NAMES, *others))}; '
        f"there are {', '.join(NAMES)}, timm:NAME and torchvision:NAME"
    )


def has_norm(name: str) -> bool:
    """Whether a student, by its canonical name, leaves its norm to be chosen."""
    return name.startswith(("convnet-", "resnetap-")) or re.fullmatch(r"resnet-\d+", name) is not None


def default_size(name: str) -> int:
    """Pixels at which RDED's code trains a student: 32 for ConvNets to depth 3, 128 for 5 and 6, else 224.

    The modified ResNets are made for 32 pixels, where they are as deep in pixels as the others at 224.
    """
    name = canonical(name)
    if name.endswith("-modified") or name in ("convnet-1", "convnet-2", "convnet-3"):
        return 32
    return 128 if name in ("convnet-5", "convnet-6") else 224


def head(net: nn.Module, classes: int) -> str:
    """Name of the layer that gives the logits: the last linear one of so many outputs, or 1 x 1 convolution."""
    found = [n for n, m in net.named_modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    found = found or [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.out_channels == classes]
    if not found:
        raise ConcordError(f"the {type(net).__name__} has no last layer of {classes} outputs, so it has no features")
    return found[-1]


def layer_input(layer: nn.Module, run: Callable[[], object]) -> Tensor:
    """What a layer is given while `run` runs, as (B, D); maps are averaged over their pixels."""
    seen: list[Tensor] = []
    with layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])):
        run()
    return seen[-1].flatten(2).mean(2) if seen[-1].ndim == 4 else seen[-1].flatten(1)


def _torchvision(model: str, classes: int, size: int) -> nn.Module:
    import torchvision

    extra: dict[str, Any] = {"image_size": size} if model.startswith("vit_") else {}
    if model in ("googlenet", "inception_v3"):
        extra = {"aux_logits": False, "init_weights": True}  # one output in training, too
    return torchvision.models.get_model(model, weights=None, num_classes=classes, **extra)


def timm_library() -> Any:
    """The package timm, which only `timm:NAME` needs; a ConcordError where it is not installed."""
    try:
        import timm
    except ImportError:
        raise ConcordError("timm:NAME needs the package timm: pip install 'concord-distill[timm]'") from None
    return timm


def timm_model(model: str, size: int | None, **choices: Any) -> Any:
    """A network of timm; the size is told to those that take only one."""
    timm = timm_library()
    config = timm.get_pretrained_cfg(model)
    extra = {"img_size": size} if size and config is not None and config.fixed_input_size else {}
    return timm.create_model(model, **choices, **extra)


def _timm(model: str, classes: int, size: int, channels: int) -> nn.Module:
    extra = {} if channels == 3 else {"in_chans": channels}
    return timm_model(model, size, pretrained=False, num_classes=classes, **extra)


@contextmanager
def taking(model: str, size: int) -> Iterator[None]:
    """Turn a library's refusal of a size, in whatever form it comes, into a ConcordError."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AssertionError) as cause:
        first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ConcordError(f"{model} does not take images of {size} pixels: {first}; give another size") from cause


@torch.no_grad()
def check_forward(net: nn.Module, model: str, classes: int, size: int, channels: int = 3) -> None:
    """Give a network one image, or a ConcordError: each has sizes of its own that it takes, and only trying tells."""
    training = net.training
    with taking(model, size):
        shape = tuple(net.eval()(torch.zeros(1, channels, size, size)).shape)
    net.train(training)
    if shape != (1, classes):
        raise ConcordError(f"{model} is no classifier: {classes} logits expected of an image, got {shape}")


def _library(source: str) -> list[str]:
    if source == "timm":
        return list(timm_library().list_models())
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))
