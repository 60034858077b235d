"""The class lists decide which image a diffusion model is asked for: a wrong id gives a plausible wrong class."""

from __future__ import annotations

from pathlib import Path

import pytest

from concord.data import ClassSpec, class_table
from concord.data.class_lists import by_wnid, class_list, class_lists
from concord.errors import ConcordError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "classes"


def test_sizes_and_a_few_ids_that_every_imagenet_user_knows() -> None:
    sizes = {name: len(class_list(name)) for name in class_lists()}
    assert sizes == {"food-101": 101, "imagenet-100": 100, "imagenet-1k": 1000, "imagenette": 10, "imagewoof": 10}
    assert by_wnid()["n01440764"].index == 0
    assert by_wnid()["n02099601"].name == "golden retriever"
    assert by_wnid()["n02099601"].index == 207
    assert by_wnid()["n15075141"].index == 999


def test_synsets_are_sorted_as_folders_are_and_subsets_agree_with_the_whole() -> None:
    whole = class_list("imagenet-1k")
    assert [c.index for c in whole] == list(range(1000))
    assert [c.wnid for c in whole] == sorted(str(c.wnid) for c in whole)
    for name in ("imagenet-100", "imagenette", "imagewoof"):
        for listed in class_list(name):
            assert by_wnid()[str(listed.wnid)] == listed


def test_names_are_unique_whatever_their_case() -> None:
    for name in class_lists():
        folded = [c.name.casefold() for c in class_list(name)]
        assert len(set(folded)) == len(folded)


def test_synset_folders_get_imagenets_name_and_id() -> None:
    table = class_table(
        [ClassSpec("train/n02096294"), ClassSpec("n02093754"), ClassSpec("n99999999"), ClassSpec("my dogs")]
    )
    entry = table.find("n02096294")
    assert (entry.class_name, entry.model_id, entry.wnid) == ("Australian terrier", 193, "n02096294")
    assert table.find("Border terrier").model_id == 182
    assert table.find("n99999999").model_id is None
    assert table.find("my dogs").wnid is None
    renamed = class_table([ClassSpec("n02096294", class_name="Aussie")])
    assert (renamed[0].class_name, renamed[0].model_id) == ("Aussie", 193)


def test_an_unknown_list_names_the_nearest() -> None:
    with pytest.raises(ConcordError, match=r'did you mean "imagewoof"'):
        class_list("image-woof")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
def test_the_package_data_are_the_published_lists() -> None:
    package = Path(__file__).parents[2] / "src" / "concord" / "data" / "lists"
    for file in SHARED.iterdir():
        assert (package / file.name).read_bytes() == file.read_bytes()
