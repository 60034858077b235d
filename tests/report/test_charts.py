"""Charts are drawn: legibly, with every class on them, and never blank."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from concord.concepts.selection import Concept
from concord.report.charts import ROWS, activation_chart, png, save
from concord.report.similarity import by_likeness, heatmap

NAMES = [f"a class of the name {i}" for i in range(100)]


def _similarity(count: int) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(count, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def _selection(count: int, pinned: bool = False) -> list[tuple[str, list[Concept]]]:
    rng = np.random.default_rng(0)
    return [
        (
            name,
            [
                Concept(f"phrase {i} of {name}", float(rng.uniform(0.1, 0.3)), i < 5, pinned and i == 0)
                for i in range(10)
            ],
        )
        for name in [f"class {i}" for i in range(count)]
    ]


@cache
def _drawn(figure: Figure) -> FigureCanvasAgg:
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()
    return figure.canvas


def _pixels(figure: Figure) -> np.ndarray:
    return np.asarray(_drawn(figure).buffer_rgba())[..., :3].astype(int)


def _colours(figure: Figure) -> int:
    return len(np.unique(_pixels(figure) @ (1 << 16, 1 << 8, 1)))


def _area(figure: Figure, colour: tuple[int, int, int]) -> int:
    return int((abs(_pixels(figure) - colour).max(2) < 12).sum())


def _texts(figure: Figure) -> list[str]:
    labels = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    return labels + [text.get_text() for text in figure.texts]


def _overlapping(figure: Figure) -> int:
    """How many neighbouring tick labels of the first axes cover one another."""
    _drawn(figure)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    return sum(a.overlaps(b) for a, b in pairwise(boxes))


@pytest.mark.parametrize("count", [1, 2, 10, 40, 100])
def test_a_heat_map_names_every_class_without_overlap(count: int) -> None:
    figure = heatmap(NAMES[:count], _similarity(count))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == NAMES[:count]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == NAMES[:count]
    assert _overlapping(figure) == 0
    assert _colours(figure) > 20, "blank"


def test_a_heat_map_shows_the_values_and_not_the_diagonal() -> None:
    figure = heatmap(["a", "b", "c"], np.array([[1, 0.25, -0.5], [0.25, 1, 0], [-0.5, 0, 1]]))
    written = sorted(text.get_text() for text in figure.axes[0].texts)
    assert written == sorted(["0.25", "0.25", "\N{MINUS SIGN}0.50", "\N{MINUS SIGN}0.50", "0.00", "0.00"])


def test_a_confusion_has_its_diagonal_and_a_note_of_its_own() -> None:
    figure = heatmap(["a", "b"], np.array([[0.75, 0.25], [0, 1]]), "Confusion", "share $x$", diagonal=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.75", "0.25", "0.00", "1.00"]
    assert [text.get_text() for text in figure.texts] == ["Confusion", r"share \$x\$"]
    assert heatmap(["alone"], np.ones((1, 1)), diagonal=True)


def test_a_matrix_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 names need a matrix of 2 x 2"):
        heatmap(["a", "b"], np.eye(3))


def test_like_classes_become_neighbours() -> None:
    similarity = np.full((6, 6), 0.1)
    for a, b in ((0, 3), (1, 4), (2, 5)):
        similarity[a, b] = similarity[b, a] = 0.9
    np.fill_diagonal(similarity, 1)
    order = by_likeness(similarity).tolist()
    assert sorted(order) == list(range(6))
    assert all(abs(order.index(a) - order.index(b)) == 1 for a, b in ((0, 3), (1, 4), (2, 5)))
    assert by_likeness(np.eye(1)).tolist() == [0]


@pytest.mark.parametrize("count", [1, 10, 13, 100])
def test_a_chart_of_activations_has_every_class_without_overlap(count: int) -> None:
    figure = activation_chart(_selection(count), "Title", "note")
    assert {f"class {i}" for i in range(count)} <= set(_texts(figure))
    assert _overlapping(figure) == 0
    assert _colours(figure) > 20, "blank"


def test_few_classes_have_their_phrases_written_out() -> None:
    assert "phrase 9 of class 4" in _texts(activation_chart(_selection(5), "Title"))


def test_kept_dropped_and_pinned_have_colours_of_their_own() -> None:
    green, amber = (27, 127, 92), (199, 119, 0)
    plain, pinned = activation_chart(_selection(3), "t"), activation_chart(_selection(3, pinned=True), "t")
    assert _area(plain, green) > _area(pinned, green) > 0
    assert _area(pinned, amber) > 0 == _area(plain, amber)
    nothing = [(name, [Concept(c.phrase, c.activation, False) for c in concepts]) for name, concepts in _selection(3)]
    assert _area(activation_chart(nothing, "t"), green) < _area(plain, green) / 5, "only the legend is left"


def test_more_classes_than_fit_are_cut_with_a_note() -> None:
    figure = activation_chart(_selection(ROWS + 1), "Title")
    assert any(f"first {ROWS} classes" in text for text in _texts(figure))


def test_names_with_dollar_signs_and_odd_letters_are_no_formulas(tmp_path: Path) -> None:
    odd = [("a $x^$ \\frac{", [Concept("it costs $5_ \x07", 0.1, True), Concept("$", 0.2, False)])]
    save(activation_chart(odd, "$"), tmp_path / "new" / "chart.png")
    save(heatmap(["a $x^$", "käse\n"], np.eye(2)), tmp_path / "heat.png")
    assert (tmp_path / "new" / "chart.png").stat().st_size > 1000


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert png(activation_chart(_selection(3), "t")) == png(activation_chart(_selection(3), "t"))


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="at least one class"):
        activation_chart([], "t")
