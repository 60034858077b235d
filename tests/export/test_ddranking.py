"""DD-Ranking compares with labels of its own: an export in another order would be scored at chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from concord.data import ClassSpec, class_list, class_table
from concord.export import export
from concord.export.ddranking import CIFAR10, SUBSETS, its_order
from concord.recipe import validate
from concord.workflows.distill import distill

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


def test_imagewoof_has_its_order_by_wordnet_id_and_by_name() -> None:
    listed = class_list("imagewoof")
    by_index = {c.index: c for c in listed}
    for names in ([c.wnid or "" for c in listed], [c.name for c in listed]):
        name, order = its_order(class_table(ClassSpec(n) for n in names))
        assert name == "ImageWoof"
        expected = [by_index[number] for number in SUBSETS["ImageWoof"]]
        assert [e.folder for e in order] in ([c.wnid for c in expected], [c.name for c in expected])
        assert [e.label for e in order] != list(range(10)), "labels follow sorted folders, its list does not"


def test_all_of_imagenet_goes_by_its_index_whatever_the_folders() -> None:
    listed = class_list("imagenet-1k")
    name, order = its_order(class_table(ClassSpec(c.name) for c in listed))
    assert name == "ImageNet1K"
    assert [e.class_name for e in order] == [c.name for c in sorted(listed, key=lambda c: c.index or 0)]


def test_cifar_by_name_and_unknown_classes_by_label() -> None:
    renamed = class_table(ClassSpec(f"{9 - i}", name) for i, name in enumerate(CIFAR10))
    name, order = its_order(renamed)
    assert (name, [e.class_name for e in order]) == ("CIFAR10", list(CIFAR10))
    name, order = its_order(class_table(ClassSpec(n) for n in ("shoe", "hat")))
    assert (name, [e.folder for e in order]) == (None, ["hat", "shoe"])


def pixels(picture: Image.Image) -> bytes:
    return np.asarray(picture.convert("RGB")).tobytes()


def rows(split: str, each: int) -> list[tuple[Image.Image, int]]:
    """The first `each` images of every class of CIFAR-10, with their labels."""
    import io

    import pyarrow.parquet as pq

    table = pq.read_table(CIFAR / f"{split}.parquet")
    found: dict[int, list[tuple[Image.Image, int]]] = {label: [] for label in range(10)}
    image, label = table.column_names[:2]
    for data, number in zip(table[image].to_pylist(), table[label].to_pylist(), strict=True):
        if len(found[number]) < each:
            found[number].append((Image.open(io.BytesIO(data["bytes"])), number))
        if all(len(of_class) == each for of_class in found.values()):
            break
    return [one for of_class in found.values() for one in of_class]


@pytest.mark.shared
def test_its_image_path_entry_reads_an_export_of_cifar_10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole score from the exported folder: a few epochs of its ConvNet, on a few images of the real data."""
    if not CIFAR.is_dir():
        pytest.skip("../shared/data is not here")
    try:
        import torch
        from ddranking.metrics import hard_label
        from ddranking.utils import data as its_data
        from torchvision import datasets, transforms
    except (ImportError, RuntimeError) as error:  # torchvision refuses another build of torch with the latter
        pytest.skip(f"ddranking with torchvision is not here ({error})")
    assert its_data.imagenet_subsets.dict == {name: list(members) for name, members in SUBSETS.items()}

    train, test = rows("train", 4), rows("test", 4)
    for number, (picture, label) in enumerate(train):
        folder = tmp_path / "cifar" / CIFAR10[label]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number:05d}.png")
    distill(validate({"method": "random", "data": str(tmp_path / "cifar"), "ipc": 2}), tmp_path / "run")
    export(tmp_path / "run", "ddranking", tmp_path / "o")

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.49, 0.48, 0.45], [0.2] * 3)])
    opened: list[Any] = []

    class Spied(datasets.ImageFolder):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            opened.append(self)

    def its_set(*_: object) -> tuple[Any, ...]:
        """Its `get_dataset` downloads CIFAR-10; here are some of the same images."""
        sets = [[(transform(picture), label) for picture, label in some] for some in (train, test, test)]
        same = {label: label for label in range(10)}
        return 3, (32, 32), [0.49, 0.48, 0.45], [0.2] * 3, 10, *sets, same, same

    monkeypatch.setattr(hard_label, "get_dataset", its_set)
    monkeypatch.setattr(hard_label.datasets, "ImageFolder", Spied)
    monkeypatch.setitem(hard_label.REAL_DATA_ACC_CACHE, "CIFAR10-ConvNet-3", 80.0)
    # At 0.2.0 this score lists its values twice, so that its own table of results cannot be made of them.
    saved: list[dict[str, list[float]]] = []
    monkeypatch.setattr(hard_label, "save_results", lambda results, path: saved.append(results))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    score = hard_label.LabelRobustScoreHard(
        dataset="CIFAR10",
        ipc=2,
        model_name="ConvNet-3",
        num_eval=1,
        num_epochs=10,
        step_size=10,
        num_workers=0,
        device="cpu",
        custom_train_trans=transform,
        data_aug_func=None,
        save_path=str(tmp_path / "scores.csv"),
    )
    score.compute_metrics(image_path=str(tmp_path / "o"), syn_lr=0.01)
    assert len(saved[0]["hard_label_recovery"]) == 1

    truth = {pixels(picture): label for picture, label in train}
    assert opened and {folder.root for folder in opened} == {str(tmp_path / "o")}
    assert [len(folder) for folder in opened] == [20] * len(opened)
    for path, label in opened[0].samples:
        assert truth[pixels(Image.open(path))] == label
