"""The commands of the evaluation as a user gives them, on sets so small that a training takes a moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from small_sets import SIDE, write_folders
from torch import nn
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.models.classifier_file import save_classifier
from concord.models.students import build_student

CLASSES = ("ash", "birch", "cedar")
NET = ("student=convnet-1", "width=4", "workers=1")
HARD = (*NET, "protocol=hard", "epochs=2", "seeds=1")
SOFT = (*NET, "protocol=rded", "epochs=2", "seeds=1")


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; a bug keeps its traceback."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def succeed(*arguments: object) -> tuple[str, str]:
    """Stdout and stderr of a command that ends well."""
    code, said, error = run(*arguments)
    assert code == 0, error
    return said, error


def refused(*arguments: object) -> str:
    """The one line that a command ends with where the user has to put something right."""
    code, said, error = run(*arguments)
    last = error.rstrip("\n").rpartition("\n")[2]
    assert (code, said) == (2, ""), (code, said, error)
    assert last.startswith("error: ")
    assert error.count("error: ") == 1
    return last.removeprefix("error: ")


def record(place: Path) -> dict[str, Any]:
    """What evaluation.json holds, of a directory or by its name."""
    return json.loads((place / "evaluation.json" if place.is_dir() else place).read_text())


def tops(place: Path) -> dict[tuple[str, str, int, str], Any]:
    """What was measured, by cell."""
    return {
        (c["student"], c["protocol"], c["ipc"], json.dumps(c["changed"])): (c["seeds"], c["top1"], c["confusion"])
        for c in record(place)["cells"]
    }


def sets(root: Path, images: int = 4, tests: int = 6, classes: Sequence[str] = CLASSES) -> tuple[Path, Path]:
    """A training and a test set of coloured squares, a colour a class."""
    train = write_folders(root / "train", dict.fromkeys(classes, images))
    return train, write_folders(root / "test", dict.fromkeys(classes, tests), seed=1)


def colour_teacher(
    path: Path, labels: Sequence[str] = CLASSES, outputs: Sequence[int] = (0, 1, 2), sure: float = 40.0
) -> Path:
    """A classifier that answers with the brightest channel: output i is the colour outputs[i]."""
    net = build_student("convnet-1", len(labels), SIDE, norm="none", width=4)
    with torch.no_grad():
        for parameter in net.net.parameters():
            parameter.zero_()
        conv, last = net.net.get_submodule("layers.conv.0"), net.net.get_submodule("classifier")
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(last, nn.Linear)
        conv.bias += 1.0  # so that ReLU lets everything through
        for channel in range(3):
            conv.weight[channel, channel, 1, 1] = 0.4
        for output, channel in enumerate(outputs):
            last.weight.view(len(labels), 4, -1)[output, channel] = sure / (SIDE // 2) ** 2
    save_classifier(path, net, labels)
    return path
