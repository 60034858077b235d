"""Trained classifiers from wherever they lie: files, torchvision, timm, transformers, the package's own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from concord.errors import ConcordError
from concord.models import students
from concord.models.checkpoint import read_checkpoint
from concord.models.classifier import Classifier
from concord.models.classifier_file import fill, is_classifier, load_classifier
from concord.models.hub import WEIGHTS, model_path
from concord.models.networks import convnet_of
from concord.models.pretrained import loading
from concord.models.students import Student, StudentForm, build_student, canonical, default_size

_BLOCKS: dict[tuple[int | str, ...], int] = {
    (2, 2, 2, 2, "basic"): 18,
    (3, 4, 6, 3, "basic"): 34,
    (3, 4, 6, 3, "bottleneck"): 50,
    (3, 4, 23, 3, "bottleneck"): 101,
    (3, 8, 36, 3, "bottleneck"): 152,
}


@dataclass(frozen=True)
class Trained:
    """A network from pixels in [0, 1] to all its logits; its own names of them, and its side in pixels, where known."""

    network: Student
    labels: tuple[str, ...] | None
    size: int | None


def trained(spec: str, classes: int, *, arch: str | None = None, size: int | None = None) -> Trained:
    """Find a trained classifier; arguments and errors are those of `concord.models.teachers.load_teacher`."""
    with torch.random.fork_rng(devices=[]):  # building draws weights that are replaced: others' draws stay as they are
        found = _find(spec, classes, arch, size)
    if side := found.size or found.network.size:
        students.check_forward(found.network, spec, found.network.form.classes, side)
    return found


def _find(spec: str, classes: int, arch: str | None, size: int | None) -> Trained:
    path = Path(spec).expanduser()
    if path.suffix in WEIGHTS:
        return _from_file(path, classes, arch, size)
    if arch is not None:
        kinds = ", ".join(WEIGHTS)
        raise ConcordError(f"arch={arch} is for a file of weights ({kinds}), and {spec} is none; leave it out")
    if path.is_dir() or spec.startswith("reef:"):
        return _transformers(spec, size)
    try:
        name = canonical(spec)
    except ConcordError:
        if spec.startswith(("timm:", "torchvision:")):
            raise
        return _transformers(spec, size)
    if re.fullmatch(r"resnet-\d+", name):
        name = f"torchvision:{name.replace('-', '')}"
    source, _, model = name.partition(":")
    if not model:
        train = "train some with `concord teacher`, and give the file"
        raise ConcordError(f"there are no pretrained weights of {name}; {train}")
    return (_timm if source == "timm" else _torchvision)(model, size)


def _from_file(path: Path, classes: int, arch: str | None, size: int | None) -> Trained:
    if arch is None and path.suffix == ".safetensors" and is_classifier(path):
        saved = load_classifier(path)
        return Trained(saved.student, saved.labels, size or saved.student.size)
    state = read_checkpoint(path, weights="model")
    choices: dict[str, Any] = {}
    convnet = convnet_of(state)
    name = canonical(arch) if arch is not None else f"convnet-{convnet[0]}" if convnet else _resnet_of(state, path)
    if convnet and name.startswith("convnet-"):
        _, choices["norm"], choices["width"], side = convnet
        size = size or side
    if "layer0.conv1.weight" in state:  # of IDC and Minimax, whose first layer follows the size
        choices["norm"] = "batch" if "layer0.bn1.running_mean" in state else "instance"
        if size is None and state["layer0.conv1.weight"].shape[-1:] == (3,):
            raise ConcordError(
                f"{path} does not tell whether its {name} is for 64 or for 128 pixels; give teacher_size"
            )
        if name != "resnetap-10":
            state = {key.removeprefix("layer0."): value for key, value in state.items()}
    student = build_student(name, classes, size or default_size(name), **choices)
    last = state.get(students.head(student.net, classes) + ".weight")
    if last is not None and last.ndim and len(last) != classes:
        student = build_student(name, len(last), student.size, **choices)
    wrong = f"{path} does not fit a {name} for {student.size} pixels, give its own arch and teacher_size"
    fill(student.net, state, wrong)
    return Trained(student, None, size)


def _resnet_of(state: Mapping[str, Tensor], path: Path) -> str:
    """The student that a state dict belongs to, among those with the names of torchvision's ResNets."""
    stem = state.get("conv1.weight", state.get("layer0.conv1.weight"))
    counts = tuple(len({n.split(".")[1] for n in state if n.startswith(f"layer{i}.")}) for i in range(1, 5))
    kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    if "layer0.conv1.weight" in state and (*counts, kind) == (1, 1, 1, 1, "basic"):
        return "resnetap-10"
    depth = _BLOCKS.get((*counts, kind))
    if depth is None or stem is None or stem.ndim != 4:
        some = ", ".join(list(state)[:3])
        raise ConcordError(f"{path}: its weights ({some}, ...) do not tell the network; name it with arch=NAME")
    modified = stem.shape[-1] == 3 and "conv1.weight" in state
    return canonical(f"resnet{depth}" + ("_modified" if modified else ""))


def _torchvision(model: str, size: int | None) -> Trained:
    import torchvision

    spec = f"torchvision:{model}"
    with loading(spec, "teacher"):
        weights = torchvision.models.get_model_weights(model).DEFAULT
        net = torchvision.models.get_model(model, weights=weights)
    seen = weights.transforms()
    return _pretrained(net, spec, len(weights.meta["categories"]), size or seen.crop_size[0], seen.mean, seen.std)


def _timm(model: str, size: int | None) -> Trained:
    spec = f"timm:{model}"
    with loading(spec, "teacher"):
        net = students.timm_model(model, size, pretrained=True)
    seen = net.pretrained_cfg
    return _pretrained(net, spec, net.num_classes, size or seen["input_size"][-1], seen["mean"], seen["std"])


def _pretrained(net: nn.Module, spec: str, outputs: int, size: int, mean: Any, std: Any) -> Trained:
    return Trained(Student(net, StudentForm(spec, outputs, size, mean=tuple(mean), std=tuple(std))), None, size)


class _Logits(nn.Module):
    """A transformers classifier as a function of a tensor."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(pixel_values=x).logits


def _transformers(spec: str, size: int | None) -> Trained:
    """Its own crop is left out: what it sees is the whole image at its crop's side, as the student sees it."""
    classifier = Classifier.from_pretrained(model_path(spec))
    seen = classifier.preprocess
    edges = seen.crop or seen.resize
    side = size or (max(edges) if isinstance(edges, tuple) else edges)
    mean, std = (tuple(v / seen.scale for v in values) for values in (seen.mean, seen.std))
    form = StudentForm(spec, len(classifier.labels), side or 0, mean=mean, std=std)
    unasked = all(re.fullmatch(r"LABEL_\d+", label) for label in classifier.labels)  # transformers writes such
    return Trained(Student(_Logits(classifier.model), form), None if unasked else tuple(classifier.labels), side)
