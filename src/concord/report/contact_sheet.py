"""The contact sheet: informed beside uninformed at the same seeds, class by class, with each concept's mark.

A class is a band: its name and numbered concepts on the left; then its first samples, the uninformed image above the
informed one, and the concepts' numbers below: filled where the scorer finds the concept, crossed where not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

TILE = 116
_GAP, _MARK, _MARGIN, _LABEL = 8, 19, 24, 248
_PAPER, _INK, _SOFT, _RULE = (255, 255, 255), (28, 30, 38), (112, 118, 130), (226, 229, 235)
_FOUND, _MISSING = (27, 127, 92), (200, 49, 60)
_ROWS = ("uninformed", "informed")


@dataclass(frozen=True)
class Tile:
    """One image and, for each of its class's concepts, whether it is found; no marks where nothing was scored."""

    image: Image.Image
    found: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Band:
    """One class: its samples as (uninformed, informed) pairs; the uninformed may be None."""

    class_name: str
    concepts: tuple[str, ...]
    samples: Sequence[tuple[Tile | None, Tile]] = field(default_factory=tuple)


def contact_sheet(bands: Sequence[Band], title: str, notes: Sequence[str] = ()) -> Image.Image:
    """Draw the sheet, an RGB image as wide and high as its bands need: at least one, with a sample each."""
    if not bands or not all(band.samples for band in bands):
        raise ValueError("a contact sheet needs at least one class and one sample of each")
    paired = any(before is not None for band in bands for before, _ in band.samples)
    marked = any(tile.found for band in bands for _, tile in band.samples)
    cell = TILE + (_MARK if marked else 0) + _GAP
    rows = 2 if paired else 1
    columns = max(len(band.samples) for band in bands)
    head = _MARGIN + 34 + 20 * len(notes) + 14
    height_of = [max(rows * cell, 40 + 20 * len(band.concepts)) + 2 * _GAP for band in bands]
    width = 2 * _MARGIN + _LABEL + (86 if paired else 0) + columns * (TILE + _GAP)
    written = [(title, 24), *((note, 14) for note in notes)]
    width = max(width, 2 * _MARGIN + round(max(_font(size).getlength(text) for text, size in written)))
    sheet = Image.new("RGB", (width, head + sum(height_of) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, _INK, _font(24))
    for i, note in enumerate(notes):
        draw.text((_MARGIN, _MARGIN + 28 + 20 * i), note, _SOFT, _font(14))
    top = head
    for band, height in zip(bands, height_of, strict=True):
        draw.line((_MARGIN, top, width - _MARGIN, top), _RULE)
        _draw_band(sheet, draw, band, top + _GAP, cell, paired)
        top += height
    return sheet


def _draw_band(sheet: Image.Image, draw: ImageDraw.ImageDraw, band: Band, top: int, cell: int, paired: bool) -> None:
    draw.text((_MARGIN, top + 2), _fit(draw, band.class_name, _LABEL - 12, _font(17)), _INK, _font(17))
    for i, concept in enumerate(band.concepts):
        y = top + 32 + 20 * i
        _number(draw, _MARGIN + 8, y + 8, i + 1, _SOFT, filled=False)
        draw.text((_MARGIN + 22, y), _fit(draw, concept, _LABEL - 36, _font(13)), _SOFT, _font(13))
    left = _MARGIN + _LABEL
    if paired:
        for row, name in enumerate(_ROWS):
            draw.text((left, top + row * cell + TILE // 2 - 8), name, _INK if row else _SOFT, _font(13))
        left += 86
    for column, (before, after) in enumerate(band.samples):
        for row, tile in enumerate((before, after) if paired else (after,)):
            if tile is not None:
                _draw_tile(sheet, draw, tile, left + column * (TILE + _GAP), top + row * cell)


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, x: int, y: int) -> None:
    scale = TILE / max(tile.image.size)
    width, height = (max(1, round(side * scale)) for side in tile.image.size)
    small = tile.image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    sheet.paste(small, (x + (TILE - width) // 2, y + (TILE - height) // 2))
    step = min(_MARK + 2, TILE // max(1, len(tile.found)))
    for i, found in enumerate(tile.found):
        _number(draw, x + 9 + i * step, y + TILE + 11, i + 1, _FOUND if found else _MISSING, filled=found)


def _number(draw: ImageDraw.ImageDraw, x: int, y: int, number: int, colour: tuple[int, int, int], filled: bool) -> None:
    r = 8
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour if filled else None, outline=colour, width=1)
    draw.text((x, y), str(number), _PAPER if filled else colour, _font(11), anchor="mm")
    if not filled and colour == _MISSING:
        draw.line((x - r + 2, y + r - 2, x + r - 2, y - r + 2), colour, 2)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(draw: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text + "..."
