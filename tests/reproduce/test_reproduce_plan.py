"""The declared tables and figures fit the paper's cells, and a plan makes each set and trains each student once."""

from __future__ import annotations

from pathlib import Path

import pytest

from concord.concepts.bank import load_bank
from concord.errors import ConcordError
from concord.paper import cells as paper_cells
from concord.recipe import identity, load
from concord.reproduce.items import item, names, wanted
from concord.reproduce.outcomes import read
from concord.reproduce.places import Choices, place, read_choices
from concord.reproduce.places import names as places
from concord.reproduce.plan import Plan, plan, seeds_of
from concord.reproduce.run import commands_of, is_prepared, job_of, lacks

ABLATIONS = ("table-4", "table-5", "table-6", "table-7")


def planned(items: str, on: str = "reef", *texts: str, quick: bool = False, work: Path = Path("/nowhere/work")) -> Plan:
    choices = read_choices(texts)
    return plan(wanted(items), place(on, choices, quick), work, choices)


def test_all_tables_and_the_figures_of_the_paper_are_declared_in_its_order() -> None:
    tables = [f"table-{n}" for n in range(1, 10)]
    figures = [f"figure-{n}" for n in ("1", "3", "4a", "4b", "4c", "5", "6", "7", "8", "9", "10", "11", "12")]
    assert names() == [*tables, *figures]
    assert [one.name for one in wanted("all")] == names()
    assert [one.name for one in wanted("figure-4,Table-8")] == ["figure-4a", "figure-4b", "figure-4c", "table-8"]
    with pytest.raises(ConcordError, match=r'unknown table or figure "tabel-5" \(did you mean "table-5"\?\)'):
        wanted("tabel-5")


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("table")])
def test_every_cell_of_a_table_that_the_paper_has_stands_beside_one_of_ours(name: str) -> None:
    table = int(name.removeprefix("table-"))
    dataset = {3: "food-101"}.get(table, "imagewoof")
    shown = [
        cell
        for on in (["imagenet-100", "imagenet-1k"] if table == 2 else [dataset])
        for one in read(planned(name, on)).outcomes[name]
        for cell in one.paper.values()
    ]
    of_table = {cell for cell in paper_cells(table)}
    # A cell that lost its column in our copy stands in every column of its row.
    assert of_table <= set(shown)


@pytest.mark.parametrize("on", places())
def test_every_place_makes_recipes_that_are_valid_and_says_what_it_cannot_make(on: str) -> None:
    found = planned("all", on)
    assert {cell.missing for cell in found.cells if not cell.set} == {cell.missing for cell in found.cells} - {""}
    for one in found.sets.values():
        assert load(one.recipe, one.settings(one.seeds[0])).method == one.base.method


def test_sets_and_trainings_are_shared_between_tables() -> None:
    one, all_of_it = planned("table-1"), planned("all")
    assert set(one.sets) <= set(all_of_it.sets)
    apart = [planned(name) for name in ABLATIONS]
    together = planned(",".join(ABLATIONS))
    assert len(together.sets) < sum(len(found.sets) for found in apart)
    assert together.trainings < sum(found.trainings for found in apart)
    # The weighted negatives of Table 5, the contrastive objective of Table 6 and the distinctive prompt of Table 4 are
    # the method as it is, in Table 1's words `unCLIP informed`.
    named = {(cell.item, cell.row): cell.set for cell in all_of_it.cells}
    same = {named["table-1", "unCLIP informed"], named["table-5", "weighted"], named["table-6", "contrastive"]}
    assert same == {named["table-4", "distinctive prompt"], named["table-7", "contrastive"]}
    assert named["figure-4c", "10"] in same
    assert len(set(same)) == 1


def test_two_sets_differ_in_what_makes_their_images() -> None:
    found = planned("all")
    identities = [
        {k: v for k, v in identity(one.base).items() if k not in ("seed", "ipc")}
        | {"ipc": one.base.spec.ipc == "joint" and one.ipc}
        for one in found.sets.values()
    ]
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])


def test_a_set_has_as_many_images_as_the_largest_table_asks_for() -> None:
    small, large = planned("table-1"), planned("table-1,figure-4a")
    [name] = {cell.set for cell in small.cells if cell.row == "unCLIP informed"}
    assert (small.sets[name].ipc, large.sets[name].ipc) == (10, 22)  # reef's for 50 and 200
    assert {n for training in large.sets[name].trainings for n in training.ipc} == {1, 5, 7, 10, 15, 22}


def test_a_dtype_is_that_of_generated_sets_and_of_students_alone() -> None:
    found = planned("table-9", "reef", "dtype=bfloat16")
    for one in found.sets.values():
        assert ("dtype=bfloat16" in one.texts) == one.base.is_generated
        assert all("dtype=bfloat16" in training.settings for training in one.trainings)


def test_methods_that_fit_all_images_together_have_a_set_for_each_ipc() -> None:
    found = planned("table-9")
    assert sorted(one.ipc or 0 for one in found.sets.values() if one.base.method == "idm") == [1, 5, 10]


def test_what_nothing_is_drawn_of_has_a_student_for_each_draw_of_the_others() -> None:
    found = planned("table-9")
    by_method = {one.base.method: one for one in found.sets.values()}
    assert by_method["herding"].seeds == (0,)
    assert by_method["random"].seeds == (0, 1, 2)
    assert {tuple(seeds_of(training)) for training in by_method["herding"].trainings} == {(0, 1, 2)}
    assert {tuple(seeds_of(training)) for training in by_method["random"].trainings} == {(0,)}


def test_the_informing_weight_scales_what_the_recipes_mode_reads() -> None:
    def weights(on: str, key: str) -> set[float]:
        return {
            getattr(one.base.informing, key) for one in planned("figure-4b", on).sets.values() if one.base.is_guided
        }

    base = load("reef-few").informing.push or 0.0
    assert sorted(weights("reef", "push")) == pytest.approx([base * factor for factor in (0.5, 1, 2, 4, 8)])
    assert sorted(weights("imagewoof", "weight")) == [0.5, 1, 2, 4, 8]


def test_a_classifier_guides_alone_with_the_papers_weight_where_weights_count() -> None:
    found = planned("table-6", "imagewoof", "classifier=c.safetensors")
    [alone] = [one.base.informing for one in found.sets.values() if one.base.informing.objective.classifier]
    assert (alone.weight, alone.objective.classifier, alone.objective.contrastive) == (0.05, 1, 0)
    assert alone.classifier == "c.safetensors"


def test_banks_of_both_prompts_come_along_and_another_models_is_asked_for() -> None:
    found = planned("table-4")
    banks = {cell.row: found.sets[cell.set].base.concepts.bank for cell in found.cells if cell.set}
    assert banks["descriptive prompt"] == "reef-descriptive"
    assert banks["distinctive prompt"] == "reef"
    assert set(load_bank("clothing-descriptive").classes) == set(load_bank("clothing").classes)
    [why] = {cell.missing for cell in found.cells if cell.missing}
    assert "banks.another=FILE" in why
    given = planned("table-4", "reef", "banks.another=reef-held-out")
    assert not [cell for cell in given.cells if cell.missing]


def test_a_recipe_is_a_place_with_real_images_beside_its_rows(tmp_path: Path) -> None:
    texts = ("data=photos", "test=more", "beside=random,herding", "student=resnet18", "ipc=1")
    found = planned("table-5", "photos", *texts)
    assert {cell.row for cell in found.cells if cell.set} == {"random real images", "herding real images"}
    assert {cell.missing for cell in found.cells if not cell.set} == {"nothing stands for unclip here"}
    custom = planned("table-5", "custom", *texts)
    assert {cell.row for cell in custom.cells if not cell.set} == set()
    with pytest.raises(ConcordError, match="name the real images to test on"):
        planned("table-5", "photos", "data=photos")
    with pytest.raises(ConcordError, match=r'--on "imagewof": .*did you mean "imagewoof"'):
        planned("table-5", "imagewof")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drawn=3", 'unknown key "drawn"'),
        ("beside=dit", "beside: dit does not take real images"),
        ("ipc=few", "ipc.0: expected a whole number"),
        ("student=vgg", "student.0: expected"),
    ],
)
def test_a_choice_that_does_not_fit_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ConcordError) as raised:
        read_choices([text])
    assert said in str(raised.value)


def test_the_short_form_is_reefs_alone_and_shares_what_is_alike() -> None:
    quick, whole = planned("all", quick=True), planned("all")
    assert quick.trainings < whole.trainings
    assert max(one.ipc or 0 for one in quick.sets.values()) == 5
    with pytest.raises(ConcordError, match="--quick is for --on reef"):
        place("imagewoof", Choices(), quick=True)


def test_a_plan_names_no_directory_twice_and_its_commands_are_those_that_make_it(tmp_path: Path) -> None:
    found = planned("table-9", quick=True, work=tmp_path)
    places_of = [found.draw(one.name, seed) for one, seed in found.draws]
    assert len(set(places_of)) == len(places_of)
    assert all(lacks(job_of(found, one, seed)) for one, seed in found.draws)
    assert not any(is_prepared(one, tmp_path / one.file) for one in found.prepared.values())
    said = [command for one in found.sets.values() for command in commands_of(found, one)]
    assert {command[1] for command in said} == {"distill", "evaluate"}
    assert all(
        "ipc=" in " ".join(command)
        for command in said
        if "method=full" not in command and "full-" not in " ".join(command)
    )


def test_items_know_their_rows() -> None:
    assert item("table-5").row("weighted").vary.negatives == "weighted"
    assert item("figure-4a").label == "Figure 4a"
