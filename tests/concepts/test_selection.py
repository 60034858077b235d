"""A bank on real images: selection is Eq. 10 and nothing else, and zero-shot scores are plain arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from concord.concepts.bank import Bank
from concord.concepts.compare import score
from concord.concepts.selection import embed_images, name_similarity, select_classes, selection_record
from concord.data import ImageSet, open_data
from concord.data.sampling import evenly, some_images
from concord.errors import ConcordError

PHRASES = {
    "cat": ("long fur", "short tail", "long ears"),
    "dog": ("short fur", "long tail", "a long fur", "short ears"),
}


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    rng = np.random.default_rng(0)
    for name in PHRASES:
        (tmp_path / name).mkdir()
        for i in range(7):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
    return open_data(str(tmp_path))


@pytest.fixture
def bank() -> Bank:
    return Bank.model_validate(
        {"schema": 1, "name": "pets", "classes": {name: {"phrases": phrases} for name, phrases in PHRASES.items()}}
    )


def _images(data: ImageSet, label: int, every: slice) -> np.ndarray:
    """Unnormalised embeddings of a class's files, straight from the network, (N, D) in float64."""
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.4])
    folder = Path(data.root)  # type: ignore[attr-defined]
    files = sorted((folder / data.classes[label].key).glob("*.png"))[every]
    pixels = np.stack([(np.asarray(Image.open(f), dtype=np.float64) / 255 - mean) / std for f in files])
    network_input = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return tiny.clip().get_image_features(pixel_values=network_input).pooler_output.double().numpy()


def _text(text: str) -> np.ndarray:
    tokens = tiny.tokenizer()([text], padding="max_length", max_length=tiny.TEXT_LENGTH, return_tensors="pt")
    with torch.no_grad():
        return tiny.clip().get_text_features(**tokens).pooler_output[0].double().numpy()


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


def test_selection_is_a_plain_evaluation_of_eq_10(photos: ImageSet, bank: Bank) -> None:
    selection = select_classes(photos, bank, tiny.encoder(), keep=2, most=None)
    for label, (name, phrases) in enumerate(PHRASES.items()):
        embeddings = _images(photos, label, slice(None))
        mean = np.mean([row / np.sqrt(row @ row) for row in embeddings], axis=0)
        expected = {phrase: _cosine(mean, _text(f"{name} with {phrase}")) for phrase in phrases}
        assert {c.phrase: c.activation for c in selection[label]} == pytest.approx(expected, abs=1e-5)
        best = sorted(expected, key=lambda phrase: -expected[phrase])
        assert [c.phrase for c in selection[label]] == best
        assert [c.phrase for c in selection[label] if c.kept] == best[:2]


def test_a_bounded_selection_sees_evenly_spaced_images(photos: ImageSet, bank: Bank) -> None:
    seen = embed_images(tiny.encoder(), photos, 1, 3)
    reference = _images(photos, 1, slice(None))[[0, 2, 4]]
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    assert seen.numpy() == pytest.approx(reference, abs=1e-5)
    few, all_ = (select_classes(photos, bank, tiny.encoder(), most=most)[0][0].activation for most in (3, None))
    assert few != all_


def test_evenly_keeps_the_order_and_never_repeats() -> None:
    items = [str(i) for i in range(10)]
    assert evenly(items, 4) == ["0", "2", "5", "7"]
    assert evenly(items, 10) == evenly(items, 99) == evenly(items, None) == items
    for most in range(1, 11):
        assert len(set(evenly(items, most))) == most


def test_images_are_read_as_they_are_asked_for(photos: ImageSet) -> None:
    pictures = some_images(photos, 0, 3)
    assert next(pictures).size == (8, 8)
    assert len(list(pictures)) == 2


def test_pinned_phrases_survive_whatever_the_images_say(photos: ImageSet, bank: Bank) -> None:
    worst = select_classes(photos, bank, tiny.encoder(), keep=1)[1][-1].phrase
    for pins in ([worst], [worst, "a dog"], ["a dog", "long dog", "short dog"]):
        chosen = select_classes(photos, bank, tiny.encoder(), keep=2, pinned={"dog": pins})[1]
        kept = {c.phrase for c in chosen if c.kept}
        assert set(pins) <= kept
        assert len(kept) == max(2, len(pins))
        assert {c.phrase for c in chosen if c.pinned} == set(pins)


def test_a_pin_on_an_unknown_class_and_a_class_without_phrases_are_errors(photos: ImageSet, bank: Bank) -> None:
    with pytest.raises(ConcordError, match=r'unknown class "dogg" \(did you mean "dog"\?\)'):
        select_classes(photos, bank, tiny.encoder(), pinned={"dogg": ["a tail"]})
    part = bank.model_copy(update={"classes": {"cat": bank.classes["cat"]}})
    with pytest.raises(ConcordError, match='no phrases for "dog"'):
        select_classes(photos, part, tiny.encoder())


def test_the_record_is_plain_json_with_every_phrase(photos: ImageSet, bank: Bank) -> None:
    selection = select_classes(photos, bank, tiny.encoder(), keep=2)
    similarity = name_similarity(tiny.encoder(), list(PHRASES))
    record = json.loads(json.dumps(selection_record("pets", "some/clip", photos.classes, selection, similarity)))
    assert set(record) == {"bank", "encoder", "classes", "similarity"}
    assert record["classes"]["cat"]["class_name"] == "cat"
    first = record["classes"]["cat"]["concepts"][0]
    assert set(first) == {"phrase", "activation", "kept", "pinned"}
    assert record["similarity"]["classes"] == ["cat", "dog"]
    cosine = _cosine(_text("cat"), _text("dog"))
    assert np.array(record["similarity"]["cosine"]) == pytest.approx(np.array([[1, cosine], [cosine, 1]]), abs=1e-4)


def test_zero_shot_scores_are_the_mean_cosine_over_phrases(photos: ImageSet, bank: Bank) -> None:
    scores = score(bank, photos, tiny.encoder())
    for label, name in enumerate(PHRASES):
        for i, image in enumerate(_images(photos, label, slice(None))):
            by_bank = [
                np.mean([_cosine(image, _text(f"{c} with {phrase}")) for phrase in phrases])
                for c, phrases in PHRASES.items()
            ]
            by_name = [_cosine(image, _text(c)) for c in PHRASES]
            assert scores[label].by_bank[i] == (np.argmax(by_bank) == label)
            assert scores[label].by_name[i] == (np.argmax(by_name) == label)
        assert scores[label].entry.class_name == name
        assert len(scores[label].by_bank) == 7


COSINES = {"cat with a": 0.6, "dog with a": 0.9, "dog with b": 0.1, "cat": 0.2, "dog": 0.3}


class _Pointing:
    """An encoder that sees every image as the x axis, and every text at a known cosine to it."""

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]]).repeat(len(pixels), 1)

    def texts(self, strings: list[str]) -> torch.Tensor:
        return torch.tensor([[COSINES[s], (1 - COSINES[s] ** 2) ** 0.5] for s in strings])


def test_zero_shot_takes_the_mean_over_phrases_not_the_sum_or_the_best(photos: ImageSet) -> None:
    phrases = {"cat": {"phrases": ["a"]}, "dog": {"phrases": ["a", "b"]}}  # means 0.6 and 0.5
    bank = Bank.model_validate({"schema": 1, "name": "pets", "classes": phrases})
    cat, dog = score(bank, photos, _Pointing(), most=4)  # type: ignore[arg-type]
    assert (cat.by_bank.tolist(), dog.by_bank.tolist()) == ([True] * 4, [False] * 4)
    assert (cat.by_name.tolist(), dog.by_name.tolist()) == ([False] * 4, [True] * 4)
