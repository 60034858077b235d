"""The contact sheet: every sample is on it, and what is missing is marked."""

import pytest
from PIL import Image

from concord.report.contact_sheet import TILE, Band, Tile, contact_sheet


def _tile(colour: str, found: tuple[bool, ...] = ()) -> Tile:
    return Tile(Image.new("RGB", (32, 32), colour), found)


def _area(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    pixels = sheet.tobytes()
    return sum(1 for i in range(0, len(pixels), 3) if tuple(pixels[i : i + 3]) == colour)


def test_each_tile_is_drawn_once() -> None:
    samples = [(_tile("#010203"), _tile("#040506"))] * 3
    sheet = contact_sheet([Band("käse / <b>", ("holes",), samples)] * 2, "Title")
    assert _area(sheet, (1, 2, 3)) == 6 * TILE * TILE
    assert _area(sheet, (4, 5, 6)) == 6 * TILE * TILE


def test_missing_concepts_are_red_and_found_ones_green() -> None:
    all_found = contact_sheet([Band("a", ("x", "y"), [(None, _tile("white", (True, True)))])], "t")
    one_missing = contact_sheet([Band("a", ("x", "y"), [(None, _tile("white", (True, False)))])], "t")
    red, green = (200, 49, 60), (27, 127, 92)
    assert _area(all_found, red) == 0
    assert _area(one_missing, red) > 20
    assert _area(all_found, green) > _area(one_missing, green) > 0


def test_without_uninformed_images_there_is_one_row() -> None:
    one = contact_sheet([Band("a", (), [(None, _tile("red"))])], "t")
    two = contact_sheet([Band("a", (), [(_tile("red"), _tile("red"))])], "t")
    assert two.height > one.height + TILE / 2


def test_nothing_to_show_is_said() -> None:
    with pytest.raises(ValueError, match="at least one class"):
        contact_sheet([], "t")
