"""Layout `ddranking`: what DD-Ranking (`pip install ddranking`, read at 0.2.0) takes as `image_path`.

Labels are the folders in sorted order there, and predictions are compared with the labels of its own test set: for the
ImageNet subsets that it knows, the places in its own unsorted lists of class numbers (`ddranking/utils/data.py`), for
ImageNet-1K and Tiny ImageNet in WordNet ids, for CIFAR in the alphabet. The folders are numbered in that order.
"""

from collections.abc import Sequence
from pathlib import Path

from concord.data.class_lists import class_list
from concord.data.classes import ClassEntry, ClassTable
from concord.data.order import KNOWN
from concord.export.made import MadeSet
from concord.export.write import Options, Reading, columns, names_of, numbered, write_classes, write_pictures
from concord.registry import LayoutSpec

SUBSETS: dict[str, tuple[int, ...]] = {
    "ImageNette": (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
    "ImageWoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    "ImageMeow": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
    "ImageSquawk": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
    "ImageFruit": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
    "ImageYellow": (309, 986, 954, 951, 987, 779, 599, 291, 72, 11),
}
"""DD-Ranking's subsets: the place in ImageNet-1K of the class with label 0, 1, ..."""
CIFAR10 = KNOWN["cifar10"]
FILE = "ddranking.safetensors"
"""Where float images lie in its order."""
LAYOUT = LayoutSpec("ddranking", "concord.export.ddranking:write", "What DD-Ranking opens.")


def write(made: MadeSet, root: Path, options: Options) -> Reading:
    """Fill `root` with ``00000/00000.png``, ... in DD-Ranking's class order, and leave ``classes.txt``."""
    name, order = its_order(made.classes)
    write_pictures(root, numbered(made, order, "{index:05d}"))
    write_classes(root, order)
    ipc, counts = min(made.counts), made.counts
    notes = [
        f"The folders have the class order of DD-Ranking's {name}; it differs from label order for some sets."
        if name is not None
        else "These classes are not ImageNet, a subset of it that DD-Ranking names, or CIFAR-10: the folders have label"
        " order, which is right for CIFAR-100 and Tiny ImageNet under their own class names and WordNet ids."
    ]
    if max(counts) > ipc:
        notes.append(f"Classes have {ipc} to {max(counts)} images; DD-Ranking compares with `ipc` random ones of each.")
    notes.append("The transform is needed: without one its loader gets pictures where it wants tensors.")
    given = 'image_path="DIR"'
    if made.tensors:
        rate = _write_tensors(made.tensors, root / FILE, order)
        given = 'image_tensor=made["images"], soft_labels=made.get("soft_labels")'
        given += f", syn_lr={rate}" if rate else ""
        notes[-1] = f"`{FILE}` holds the images in its order, as they are stored: it decodes none."
    code = (
        (f'from safetensors.torch import load_file\n\nmade = load_file("DIR/{FILE}")\n\n' if made.tensors else "")
        + "from ddranking.metrics import LabelRobustScoreSoft\n\n"
        f'score = LabelRobustScoreSoft(dataset="{name or "CIFAR100"}", ipc={ipc}, custom_train_trans=transform, ...)\n'
        f"score.compute_metrics({given})"
    )
    return Reading("**", code, tuple(notes), columns(names_of(order)))


def _write_tensors(source: Path, target: Path, order: Sequence[ClassEntry]) -> float | None:
    """Write float images, and soft labels, in an order of classes; return the rate that was learnt with them."""
    import torch
    from safetensors.torch import save_file

    from concord.data.tensor_set import open_tensors

    whole = open_tensors(source)
    index = torch.cat([(whole.labels == entry.label).nonzero().flatten() for entry in order])
    tensors = {"images": whole.images[index]}
    if whole.soft is not None:
        tensors["soft_labels"] = whole.soft[index][:, [entry.label for entry in order]].contiguous()
    save_file(tensors, target)
    return whole.form.rate


def its_order(classes: ClassTable) -> tuple[str | None, list[ClassEntry]]:
    """Return DD-Ranking's name for the data set with these classes, and the classes in its order of labels.

    A class is known by its WordNet id or its name. None and label order where no data set of its has these classes.
    """
    numbers = {c.name.casefold(): c.index for c in class_list("imagenet-1k")}
    ids = {e.model_id if e.model_id is not None else numbers.get(e.class_name.casefold()): e for e in classes}
    for name, members in SUBSETS.items():
        if set(ids) == set(members):
            return name, [ids[number] for number in members]
    cifar = {e.class_name.casefold(): e for e in classes}
    if set(cifar) == set(CIFAR10):
        return "CIFAR10", [cifar[name] for name in CIFAR10]
    if set(ids) == set(range(1000)):
        return "ImageNet1K", [ids[number] for number in range(1000)]
    return None, list(classes)
