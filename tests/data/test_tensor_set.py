"""Float images: a wrong space, order or part of them is another method's accuracy."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from concord.data import ClassSpec, class_table
from concord.data.order import KNOWN
from concord.data.peer_files import open_peer_file, peer_file
from concord.data.space import SPACES, Space, fit_zca
from concord.data.tensor_set import TensorForm, decoded, load_floats, open_tensors, save_tensors
from concord.data.tensors import TensorSet
from concord.errors import ConcordError

CLASSES = class_table(ClassSpec(name) for name in ("ant", "bee", "cat"))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def saved(path: Path, form: TensorForm, **parts: Any) -> Path:
    values = {"images": noise(6, 3, 8, 8), "labels": torch.tensor([0, 1, 2, 2, 1, 0]), "classes": CLASSES, **parts}
    save_tensors(path, values["images"], values["labels"], values["classes"], form, values.get("soft"))
    return path


def peer(folder: Path, name: str = "res_DM_CIFAR10_ConvNet_2ipc.pt", **parts: Any) -> Path:
    """A file as DC's and DM's code writes it, with the accuracies of NumPy beside the images."""
    labels = torch.arange(10).repeat_interleave(2)
    sets = parts.get("sets", [[noise(20, 3, 32, 32), labels]])
    path = folder / name
    torch.save({"data": sets, "accs_all_exps": {"ConvNet": [np.float64(0.48), np.float64(0.5)]}}, path)
    return path


# Spaces.


def test_normalised_as_torchvision_does_it() -> None:
    from torchvision.transforms import v2

    mean, std = SPACES["cifar10"]
    pixels = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    space = Space.named("cifar10")
    assert torch.equal(space.of_pixels(pixels), v2.Normalize([*mean], [*std])(pixels))
    torch.testing.assert_close(space.pixels(space.of_pixels(pixels)), pixels, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_equals_an_independent_eigendecomposition_in_float64(channels: int) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (40, channels, 5, 5), generator=generator, dtype=torch.uint8)
    images[:, :, 2:] //= 3  # not white to begin with
    rows = images.flatten(1).numpy().astype(np.float64) / 255
    mean = rows.mean(0)
    variances, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    matrix = vectors @ np.diag(1 / np.sqrt(variances + 0.1)) @ vectors.T
    space = fit_zca(images)
    assert space.matrix is not None
    np.testing.assert_allclose(space.matrix.numpy(), matrix, atol=2e-6)
    seen = torch.randint(0, 256, (7, channels, 5, 5), generator=generator, dtype=torch.uint8)
    expected = (seen.flatten(1).numpy() / 255 - mean) @ matrix
    whitened = space.of_pixels(seen.float() / 255)
    np.testing.assert_allclose(whitened.flatten(1).numpy(), expected, atol=5e-6)
    torch.testing.assert_close(space.pixels(whitened), seen.float() / 255, atol=1e-5, rtol=0)


def test_pictures_get_one_channel_as_pillow_gives_it() -> None:
    images = torch.randint(0, 256, (3, 3, 9, 9), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    grey = TensorSet(images, torch.arange(3)).within(Space.normalised([0.0], [1.0]), 1)
    for one, image in zip(grey.images, images, strict=True):
        by_pillow = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert torch.equal((one[0] * 255).round().byte(), torch.from_numpy(by_pillow.copy()))


# Decoding.


@pytest.mark.parametrize("factor", [2, 3])
def test_decoding_is_a_crop_and_an_upsampling_by_hand(factor: int) -> None:
    """Bilinear between pixel centres, without what lies beyond the part."""
    side = 6
    images = noise(2, 1, side, side)
    part = side // factor
    centres = (np.arange(side) + 0.5) / factor - 0.5
    low = np.floor(np.clip(centres, 0, part - 1)).astype(int)
    high, share = np.minimum(low + 1, part - 1), np.clip(centres, 0, part - 1) - low
    expected = []
    for image in images.numpy()[:, 0]:
        for row in range(factor):
            for column in range(factor):
                crop = image[row * part : (row + 1) * part, column * part : (column + 1) * part]
                tall = crop[low] * (1 - share)[:, None] + crop[high] * share[:, None]
                expected.append(tall[:, low] * (1 - share) + tall[:, high] * share)
    np.testing.assert_allclose(decoded(images, factor)[:, 0].numpy(), np.array(expected), atol=1e-6)


def test_a_side_that_no_factor_divides_is_padded_at_its_end() -> None:
    """As IDC's code does at 224 px and a factor of 3: by middle grey."""
    images = torch.zeros(1, 1, 5, 5)
    last = decoded(images, 2, 0.5)[3]
    assert last[0, 0, 0] == 0 and last[0, -1, -1] == 0.5
    assert decoded(images, 2, 0.5).shape == (4, 1, 5, 5)


# The file.


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_set_comes_back_as_it_was_written(tmp_path: Path, dtype: Any) -> None:
    soft = noise(6, 3).softmax(1)
    form = TensorForm(Space.named("cifar10"), 2, 0.0123, dtype)
    path = saved(tmp_path / "tensors.safetensors", form, soft=soft)
    found = open_tensors(path)
    exact = noise(6, 3, 8, 8).to(getattr(torch, dtype)).float()
    assert torch.equal(found.images, exact)
    assert (found.form.decode, found.form.rate, found.form.dtype) == (2, 0.0123, dtype)
    assert [entry.class_name for entry in found.classes] == ["ant", "bee", "cat"]
    assert found.soft is not None and torch.equal(found.soft, soft)
    trained = load_floats(found, found, ipc=1)
    assert trained.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(trained.images, decoded(exact[[0, 1, 2]], 2))
    again = saved(tmp_path / "again.safetensors", form, soft=soft)
    assert again.read_bytes() == path.read_bytes()


def test_a_preview_is_the_picture_of_its_values(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    space = Space.named("imagenet")
    path = saved(tmp_path / "a.safetensors", TensorForm(space), images=space.of_pixels(pixels.float() / 255))
    found = open_tensors(path)
    assert found.items(2) == ["cat/00000", "cat/00001"]
    assert found.size("bee/00001") == (8, 8)
    assert np.array_equal(np.asarray(found.read("bee/00001")), pixels[4].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("labels"), "holds no images, labels and classes"),
        (lambda t: t.update(images=t["images"][:, :, :4].contiguous()), "squares"),
        (lambda t: t["images"].fill_(float("nan")), "not finite"),
        (lambda t: t["labels"].fill_(3), "labels reach from 3 to 3 among 3 classes"),
        (lambda t: t.update(labels=t["labels"].float()), "6 integers"),
        (lambda t: t.update(std=t["std"][:2].contiguous()), "odd shapes"),
        (lambda t: t.update(mean=torch.zeros(1), std=torch.ones(1)), "space is of 1 values, and an image has 3"),
        (lambda t: t.update(soft=torch.ones(6, 2)), "soft labels are"),
    ],
)
def test_what_does_not_fit_together_is_one_line(tmp_path: Path, change: Callable[[Any], Any], said: str) -> None:
    path = saved(tmp_path / "a.safetensors", TensorForm(Space.named("cifar10")))
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        head = file.metadata()
    change(tensors := load_file(path))
    save_file(tensors, path, head)
    with pytest.raises(ConcordError, match=said):
        open_tensors(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 9}, "schema"),
        ({"decode": "x"}, "decode"),
        ({"decode": 9}, "an image of 8 px has no so many parts"),
        ({"rate": -1}, "rate"),
        ({"classes": [1]}, "classes"),
        ({"classes": []}, "no images, labels and classes"),
        ({"classes": [{"folder": name, "name": ""} for name in "bac"]}, "order"),
        ({"classes": [{"folder": "a", "name": ""}]}, "reach from 0 to 2 among 1"),
    ],
)
def test_a_header_of_another_kind_is_one_line(tmp_path: Path, change: Any, said: str) -> None:
    path = saved(tmp_path / "a.safetensors", TensorForm(Space.named("cifar10")))
    head = {"schema": 1, "classes": [{"folder": name, "name": ""} for name in "abc"], **change}
    save_file(load_file(path), path, {"concord": json.dumps(head)})
    with pytest.raises(ConcordError, match=f"is no set of float images: .*{said}"):
        open_tensors(path)
    save_file(load_file(path), path, {"concord": "{"})
    with pytest.raises(ConcordError, match="is no set of float images"):
        open_tensors(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConcordError, match="torn"):
        open_tensors(path)


# Others' files.


def test_dms_file_says_its_data_set_and_its_classes(tmp_path: Path) -> None:
    found = open_peer_file(peer(tmp_path))
    assert [entry.class_name for entry in found.classes] == [*KNOWN["cifar10"]]
    assert torch.equal(found.images, noise(20, 3, 32, 32))
    assert found.form.space.mean.tolist() == pytest.approx(SPACES["cifar10"][0])
    assert "cifar10" in found.notes[0]
    assert peer_file(tmp_path) == tmp_path / "res_DM_CIFAR10_ConvNet_2ipc.pt"


def test_mtts_pair_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    """Labels of others count in their own order; here a class is where its folder is in sorted order."""
    torch.save(noise(3, 3, 8, 8), tmp_path / "images_best.pt")
    torch.save(torch.tensor([0, 1, 2]), tmp_path / "labels_best.pt")
    path = peer_file(tmp_path)
    assert path == tmp_path / "images_best.pt"
    found = open_peer_file(path, ["zebra", "ape", "moose"], "cifar10")
    assert [entry.folder for entry in found.classes] == ["ape", "moose", "zebra"]
    assert found.labels.tolist() == [2, 0, 1]
    (tmp_path / "classes.txt").write_text("zebra\nape\nmoose\n")
    assert open_peer_file(path, None, "cifar10").labels.tolist() == [2, 0, 1]
    torch.save(torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [0, 0, -4.0]]), tmp_path / "labels_best.pt")
    soft = open_peer_file(path, None, "cifar10")
    assert soft.soft is not None
    torch.testing.assert_close(soft.soft[0], torch.tensor([0.0, 0, 2]).softmax(0))
    assert "logits" in soft.notes[0]


def test_one_of_several_experiments_is_taken_and_said(tmp_path: Path) -> None:
    labels = torch.arange(10)
    path = peer(tmp_path, sets=[[noise(10, 3, 8, 8, seed=seed), labels] for seed in (0, 1)])
    assert any("holds 2 experiments" in note for note in open_peer_file(path).notes)
    assert torch.equal(open_peer_file(path, experiment=1).images, noise(10, 3, 8, 8, seed=1))
    with pytest.raises(ConcordError, match=r"experiment=2: .* 2 experiments"):
        open_peer_file(path, experiment=2)


def test_one_channel_of_28_pixels(tmp_path: Path) -> None:
    path = peer(tmp_path, "res_DC_MNIST_ConvNet_1ipc.pt", sets=[[noise(10, 1, 28, 28), torch.arange(10)]])
    found = open_peer_file(path)
    assert (found.channels, found.side, found.form.space.mean.tolist()) == (1, 28, pytest.approx([0.1307]))
    assert found.read("3/00000").mode == "RGB"
    with pytest.raises(ConcordError, match="space is of 3 values, and an image has 1"):
        open_peer_file(path, space="cifar10")


class Code:
    def __reduce__(self) -> Any:
        return print, ("this ran",)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_that_asks_for_code_is_refused_with_the_way_to_convert_it(
    tmp_path: Path, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "synthetic.pt"
    write((Code(), torch.arange(3)), path)
    with pytest.raises(ConcordError, match="could run foreign code; where it is trusted, convert it once: python -c"):
        open_peer_file(path, ["a", "b", "c"], "cifar10")
    assert capsys.readouterr().out == ""


def test_the_way_to_convert_a_pickle_makes_a_file_that_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    """IDM's: a pickled tuple of images, which want gradients, and labels."""
    path = tmp_path / "set.pickle"
    path.write_bytes(pickle.dumps((noise(3, 3, 8, 8).requires_grad_(), torch.arange(3))))
    with pytest.raises(ConcordError) as refused:
        open_peer_file(path, ["a", "b", "c"], "cifar10")
    monkeypatch.chdir(tmp_path)
    exec(str(refused.value).partition('python -c "')[2].partition('"')[0], {})
    assert torch.equal(open_peer_file(tmp_path / "set.pickle.pt", ["a", "b", "c"], "cifar10").images, noise(3, 3, 8, 8))


@pytest.mark.parametrize(
    ("content", "words", "space", "said"),
    [
        ([noise(3, 3, 8, 8), torch.arange(3)], None, "cifar10", r"does not say what its 3 classes are.*classes\.txt"),
        ([noise(3, 3, 8, 8), torch.arange(3)], ["a", "b", "c"], None, r"tensors\.space=.*tensors\.zca="),
        ([noise(3, 3, 8, 8), torch.arange(3)], ["a", "b"], "cifar10", "has 3 classes, and 2 names"),
        ([noise(3, 3, 8, 8), torch.arange(3)], ["a", "b", "a"], "cifar10", '"a" is named twice'),
        ([noise(3, 3, 8, 8), torch.arange(3)], ["a", "b", "c"], "cifar11", 'unknown space "cifar11".*cifar10'),
        ([noise(3, 3, 8, 8), torch.arange(2)], ["a", "b", "c"], "cifar10", "3 integers"),
        (noise(3, 3, 8, 8), ["a", "b", "c"], "cifar10", "a tensor alone"),
        ({"net": {}}, ["a", "b", "c"], "cifar10", "images and labels are expected"),
    ],
)
def test_what_a_file_lacks_is_named_with_what_to_give(
    tmp_path: Path, content: Any, words: Any, space: Any, said: str
) -> None:
    torch.save(content, tmp_path / "set.pt")
    with pytest.raises(ConcordError, match=said):
        open_peer_file(tmp_path / "set.pt", words, space)


def test_a_file_that_is_none_and_a_folder_of_several_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "set.pt").write_text("hello")
    with pytest.raises(ConcordError, match="no file of torch"):
        open_peer_file(tmp_path / "set.pt")
    for ipc in (1, 10):
        peer(tmp_path, f"res_DM_CIFAR10_ConvNet_{ipc}ipc.pt")
    with pytest.raises(ConcordError, match="holds 2 sets"):
        peer_file(tmp_path)
