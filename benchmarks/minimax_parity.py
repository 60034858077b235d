"""Whether the protocol `hard` is Minimax's, by its own code: settings, networks, views and a training, one by one.

    python benchmarks/minimax_parity.py MINIMAX    # a checkout of github.com/vimar-gu/MinimaxDiffusion

settings: `argument.py` called with each IPC and number of classes, beside the protocol. networks: largest difference of
logits, in float64, with the same weights; and of the spread of first weights, layer by layer. views: a stored image
through `transform_imagenet`, made to draw what our view drew. training: `train.train`, given the batches, partners and
boxes that ours drew, to the last weight. The checkout runs on the CPU as it is: `.cuda()` stays where it is, and the
package of a network that is not asked for is left out. Ends with 1 where something differs.

Writes benchmarks/results/minimax_parity.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import runpy
import sys
from argparse import Namespace
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from rded_checkout import commit, on_cpu
from record import RESULTS, head, write
from torch import Tensor, nn

from concord.data.tensors import TensorSet, for_training
from concord.evaluation.augment import apply, draw
from concord.evaluation.protocols import HARD, is_eval_epoch, lr_factor, num_epochs
from concord.evaluation.settings import ProtocolConfig
from concord.evaluation.training import HERE as CPU
from concord.evaluation.training import Drawn, Trainer, accuracy, augmented_batch, normalisation, predict
from concord.models.students import build_student
from concord.reef.dataset import real_set, test_set

CELLS = (
    (1, 10),
    (2, 10),
    (10, 10),
    (20, 10),
    (50, 10),
    (100, 10),
    (200, 10),
    (500, 10),
    (10, 100),
    (50, 100),
    (10, 1000),
)
NETWORKS = (
    *(("resnet-18", size) for size in (64, 128, 224)),
    *(("resnetap-10", size) for size in (64, 128, 224)),
    ("resnet-50", 64),
    ("convnet-6", 224),
)
SIDE = 32


def argued(root: Path, *words: str) -> Namespace:
    """What `argument.py` makes of a command line."""
    with patch.object(sys, "argv", ["train.py", *words]), contextlib.redirect_stdout(io.StringIO()):
        found: Namespace = runpy.run_path(str(root / "argument.py"))["args"]
    return found


def settings(root: Path) -> list[dict[str, Any]]:
    """A row for every IPC and number of classes: what there is in theirs and in ours."""
    rows = []
    for ipc, classes in CELLS:
        args = argued(root, "-d", "imagenet", "--nclass", str(classes), "--ipc", str(ipc), "-s", "random")
        way = ProtocolConfig(HARD, {}).among(classes).protocol
        epochs = num_epochs(way, ipc, classes)
        rates = torch.optim.SGD([nn.Parameter(torch.zeros(1))], args.lr)
        steps = torch.optim.lr_scheduler.MultiStepLR(rates, [2 * args.epochs // 3, 5 * args.epochs // 6], gamma=0.2)
        theirs: dict[str, Any] = {
            **{key: getattr(args, key) for key in ("lr", "weight_decay", "momentum", "batch_size", "epochs", "size")},
            **{"alpha": args.beta, "probability": args.mix_p, "norm": args.norm_type, "reads": 0, "rates": 0.0},
        }
        ours: dict[str, Any] = {
            **{"lr": way.lr, "weight_decay": way.weight_decay, "momentum": way.momentum, "batch_size": way.batch},
            **{"epochs": epochs, "size": way.student_size, "alpha": way.mixing.alpha, "reads": 0, "rates": 0.0},
            **{"probability": way.mixing.probability, "norm": way.norm},
        }
        for epoch in range(args.epochs):
            theirs["reads"] += (epoch + 1) % args.epoch_print_freq == 0
            ours["reads"] += is_eval_epoch(way, epoch, epochs)
            theirs["rates"] += steps.get_last_lr()[0]
            ours["rates"] += way.lr * lr_factor(way.schedule, epoch, epochs)
            rates.step()
            steps.step()
        for sums in (theirs, ours):
            sums["rates"] = round(sums["rates"], 9)
        different = {key: [value, ours[key]] for key, value in theirs.items() if value != ours[key]}
        rows.append({"ipc": ipc, "classes": classes, **theirs, "different": different})
    return rows


def network(name: str, size: int) -> nn.Module:
    """One of theirs."""
    kind, _, depth = name.partition("-")
    if kind == "convnet":
        side = {"net_norm": "instance", "net_depth": int(depth), "im_size": (size, size)}
        return import_module("train_models.convnet").ConvNet(10, **side)
    form = {"norm_type": "instance", "size": size}
    if kind == "resnetap":
        return import_module("train_models.resnet_ap").ResNetAP("imagenet", int(depth), 10, **form)
    return import_module("train_models.resnet").ResNet("imagenet", int(depth), 10, **form)


def renamed(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Their weights by our names."""
    return {key.removeprefix("layer0.") if name.startswith("resnet-") else key: w for key, w in state.items()}


@torch.no_grad()
def networks() -> list[dict[str, Any]]:
    """Differences of logits and of first weights, of each network at each size."""
    rows = []
    for name, size in NETWORKS:
        torch.manual_seed(0)
        theirs, ours = network(name, size), build_student(name, 10, size, norm="instance").net
        first = renamed(theirs.state_dict(), name)
        spread = {key: float(w.std() / first[key].std()) for key, w in ours.state_dict().items() if w.ndim > 1}
        for weights in theirs.parameters():  # scales and shifts that are not 1 and 0
            weights.add_(0.1 * torch.randn_like(weights) * (weights.ndim == 1))
        ours.load_state_dict(renamed(theirs.state_dict(), name))
        pixels = torch.randn(2, 3, size, size, dtype=torch.float64)
        apart = (ours.double().eval()(pixels) - theirs.double().eval()(pixels)).abs().max()
        rows.append(
            {
                "network": name,
                "size": size,
                "logits": float(apart),
                "spread": round(max(abs(ratio - 1) for ratio in spread.values()), 4),
            }
        )
    return rows


def views(seeds: int) -> float:
    """The largest difference of a pixel, in units of the channel's deviation, over as many views."""
    data, utils = import_module("data"), import_module("misc.utils")
    worst, size = 0.0, 224
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (256, 288, 3), generator=generator, dtype=torch.uint8)
        image = Image.fromarray(pixels.numpy()).resize((288, 256))
        stored = torch.tensor(list(for_training(size)(image).tobytes()), dtype=torch.uint8).view(1, size, size, 3)
        view = draw(HARD.augment, 1, size, size, generator)
        mean, std = normalisation(HARD, CPU)
        ours = (apply(HARD.augment, stored.permute(0, 3, 1, 2), view, size)[0] - mean[:, None, None]) / std[
            :, None, None
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            transform, _ = data.transform_imagenet(augment=True, size=size)
        crop, flip = (next(t for t in transform.transforms if type(t).__name__ == f"Random{kind}") for kind in KINDS)
        flip.p, blends = float(view["flip"][0]), iter((1 - view["jitter"][0]).tolist())
        box = view["crop"][0].tolist()
        with (
            patch.object(crop, "get_params", lambda *_, box=box: box),
            patch.object(utils.random, "shuffle", lambda steps: None),
            patch.object(utils.random, "uniform", lambda low, high, blends=blends: next(blends)),
            patch.object(Tensor, "normal_", lambda own, mean, std, drawn=view["lighting"][0]: own.copy_(drawn)),
        ):
            worst = max(worst, float((transform(image) - ours).abs().max()))
    return worst


KINDS = ("ResizedCrop", "HorizontalFlip")


class Given:
    """A loader of theirs that gives one epoch after the other of batches that were drawn."""

    device = "cpu"

    def __init__(self, epochs: list[list[tuple[Tensor, Tensor]]]) -> None:
        self._epochs = iter(epochs)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(next(self._epochs))


def training(root: Path, epochs: int) -> dict[str, Any]:
    """Largest difference of a weight after a training, how far weights moved, and both accuracies of both."""
    way, keep = HARD.model_copy(update={"epochs": epochs}), for_training(SIDE)
    sets = []
    for images in (real_set(3), test_set(5)):
        items = [(entry.label, item) for entry in images.classes for item in images.items(entry.label)]
        rows = [torch.tensor(list(keep(images.read(item)).tobytes()), dtype=torch.uint8) for _, item in items]
        pixels = torch.stack(rows).view(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2).contiguous()
        sets.append(TensorSet(pixels, torch.tensor([label for label, _ in items])))
    data, test = sets
    torch.manual_seed(0)
    student, mean, std = build_student("convnet-3", 10, SIDE, norm="instance", width=16), *normalisation(way, CPU)
    start = {name: weights.clone() for name, weights in student.net.state_dict().items()}
    drawn, read = Drawn(way, len(data), SIDE, SIDE, 8, 0), []
    given: list[list[tuple[Tensor, Tensor]]] = []
    mixed: list[tuple[Tensor, tuple[int, ...]]] = []
    trainer = Trainer(student, data, way, SIDE)
    for epoch in range(epochs):
        given.append([])
        trainer.begin(lr_factor(way.schedule, epoch, epochs))
        for batch in drawn.epoch(epoch):
            plain, _ = augmented_batch(data, batch, way, SIDE, (mean, std))
            given[-1].append(((plain - mean.view(3, 1, 1)) / std.view(3, 1, 1), data.labels[batch.index]))
            y1, x1, y2, x2 = batch.mixing["box"].tolist()
            mixed.append((batch.mixing["index"].long(), (y1, x1, y2, x2)))
            trainer.step(batch)
        if is_eval_epoch(way, epoch, epochs):
            read.append(accuracy(predict(student, test), test.labels))
    theirs: nn.Module = import_module("train_models.convnet").ConvNet(
        10, net_norm="instance", net_depth=3, net_width=16, im_size=(SIDE, SIDE)
    )
    theirs.load_state_dict(start)
    partners, boxes = (iter([pair[k] for pair in mixed]) for k in (0, 1))
    args = argued(root, "-d", "imagenet", "--nclass", "10", "--ipc", "3", "-s", "random")
    args.epochs, args.epoch_print_freq = epochs, max(1, epochs // 100)
    judged: Any = [((test.pixels(slice(None)) - student.mean) / student.std, test.labels)]
    code = import_module("train")
    with (
        on_cpu(),
        patch.object(code, "random_indices", lambda *_, **__: next(partners)),
        patch.object(code, "rand_bbox", lambda *_: next(boxes)),  # rows first, as ours
    ):
        best, last = code.train(args, theirs, Given(given), judged, None, lambda *_: None)
    pairs = [(weights, theirs.state_dict()[name], start[name]) for name, weights in student.net.state_dict().items()]
    return {
        "epochs": epochs,
        "steps": len(mixed),
        "weights": max(float((a - b).abs().max()) for a, b, _ in pairs),
        "moved": max(float((a - c).abs().max()) for a, _, c in pairs),
        "best": [round(float(best), 6), round(max(read), 6)],
        "last": [round(float(last), 6), round(read[-1], 6)],
    }


@contextlib.contextmanager
def imported(root: Path) -> Iterator[None]:
    """Have the checkout's modules, on the CPU, where imports find them."""
    tensor = torch.tensor
    with (
        patch.object(sys, "path", [str(root.resolve()), *sys.path]),
        patch.dict(sys.modules, {"efficientnet_pytorch": SimpleNamespace(EfficientNet=None)}),
    ):
        with patch.object(torch, "tensor", lambda *given, device=None, **more: tensor(*given, **more)):
            import_module("train")
        yield


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="of github.com/vimar-gu/MinimaxDiffusion")
    parser.add_argument("--epochs", type=int, default=12, help="of the training; rounding grows beyond")
    parser.add_argument("--views", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS / "minimax_parity.json")
    options = parser.parse_args(arguments)
    if not (options.checkout / "train_models").is_dir():
        raise SystemExit(f"{options.checkout} is no checkout of github.com/vimar-gu/MinimaxDiffusion: no train_models/")
    torch.set_num_threads(1)
    with imported(options.checkout):
        found: dict[str, Any] = {
            "settings": settings(options.checkout),
            "networks": networks(),
            "views": {"views": options.views, "pixels": views(options.views)},
            "training": training(options.checkout, options.epochs),
        }
    course = found["training"]
    alike = {
        "settings": not any(row["different"] for row in found["settings"]),
        "networks": all(row["logits"] < 1e-12 and row["spread"] < 0.1 for row in found["networks"]),
        "views": found["views"]["pixels"] < 1e-5,
        "training": course["weights"] < 1e-4 * course["moved"] and course["best"][0] == course["best"][1],
    }
    record = head(note="1 thread", minimax=commit(options.checkout), alike=alike, **found)
    write(options.out, record, {str(options.checkout): "MINIMAX"})
    print(alike, found["networks"], found["views"], course, sep="\n")
    if not all(alike.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
