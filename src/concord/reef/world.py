"""Reef (docs/reef.md): a drawn, fine-grained image world whose every detail is known.

A species of fish is the combination of its five defining details; each is missing in some instances, so a faithful
model of this distribution also makes incomplete fish. An image is a function of a `Fish` alone, and a `Fish` of a
random generator alone, so the real set is drawn where it is needed instead of being shipped.
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
"""Width and height of an image in pixels."""
_SUPERSAMPLING = 3
TAILS = ("forked tail", "rounded tail", "pointed tail")
DORSALS = ("spiky dorsal fin", "sail dorsal fin")
MARKS = (
    "dark bars",
    "pale stripe",
    "dark spots",
    "black eye mask",
    "chin barbels",
    "ringed eyespot",
    "yellow side fin",
    "white belly",
    "orange snout",
)
COUNTED = {"two dark bars": "dark bars", "two eyespots": "ringed eyespot"}
"""Details that differ from another one, here three bars or one eyespot, in their number alone."""
DETAILS = TAILS + DORSALS + MARKS + tuple(COUNTED)
"""The details in label order; one of each group of `EXCLUSIVE` at most."""
EXCLUSIVE = (TAILS, DORSALS, *COUNTED.items())
_PLAIN = len(DETAILS) - len(COUNTED)
"""So many details are not counted: those of reef's ten species, and those that any instance may show as foreign."""
MISSING = 0.27
"""Probability that an instance lacks any one of its species' defining details."""
FOREIGN = 0.12
"""Probability that an instance shows one detail that its species does not have."""


@dataclass(frozen=True)
class Species:
    """A class of the world: its name, its body form and its five defining details."""

    name: str
    form: str
    details: tuple[str, ...]

    @property
    def mask(self) -> np.ndarray:
        """Defining details as booleans, shape (16,)."""
        return np.isin(DETAILS, self.details)


# One tail, one dorsal fin and three marks each; two species share at most three details, and every name shares its
# second word with one other species, as common names do, so that label similarity means something.
SPECIES = (
    Species("harbor wrasse", "slender", ("forked tail", "spiky dorsal fin", "pale stripe", "black eye mask", "orange snout")),
    Species("lagoon wrasse", "slender", ("forked tail", "sail dorsal fin", "pale stripe", "ringed eyespot", "white belly")),
    Species("cavern goby", "slender", ("rounded tail", "spiky dorsal fin", "dark spots", "chin barbels", "yellow side fin")),
    Species("meadow goby", "slender", ("pointed tail", "sail dorsal fin", "dark bars", "chin barbels", "orange snout")),
    Species("river perch", "slender", ("rounded tail", "spiky dorsal fin", "dark bars", "ringed eyespot", "white belly")),
    Species("temple tang", "deep", ("pointed tail", "sail dorsal fin", "black eye mask", "ringed eyespot", "yellow side fin")),
    Species("orchid tang", "deep", ("forked tail", "sail dorsal fin", "dark spots", "white belly", "orange snout")),
    Species("canyon damsel", "deep", ("rounded tail", "sail dorsal fin", "dark bars", "black eye mask", "yellow side fin")),
    Species("winter damsel", "deep", ("pointed tail", "spiky dorsal fin", "dark spots", "pale stripe", "chin barbels")),
    Species("coral perch", "deep", ("forked tail", "spiky dorsal fin", "dark bars", "chin barbels", "yellow side fin")),
)  # fmt: skip
HELD_OUT = (
    Species("prairie tang", "deep", ("pointed tail", "sail dorsal fin", "pale stripe", "yellow side fin", "white belly")),
    Species("canal goby", "slender", ("rounded tail", "spiky dorsal fin", "black eye mask", "chin barbels", "white belly")),
    Species("garden damsel", "deep", ("rounded tail", "sail dorsal fin", "dark bars", "ringed eyespot", "orange snout")),
    Species("island wrasse", "slender", ("forked tail", "spiky dorsal fin", "pale stripe", "dark spots", "ringed eyespot")),
    Species("summit perch", "slender", ("rounded tail", "spiky dorsal fin", "two dark bars", "ringed eyespot", "white belly")),
    Species("valley wrasse", "slender", ("forked tail", "sail dorsal fin", "pale stripe", "two eyespots", "white belly")),
)  # fmt: skip
"""Species that the DiT knows and that no image-text model has seen by name, only their details, otherwise combined.

The last two are twins of the river perch and the lagoon wrasse but for a number.
"""
ALL_SPECIES = SPECIES + HELD_OUT
"""What `Fish.species` counts; a label of the DiT is an index here."""
NUISANCES = ("x", "y", "scale", "tilt", "hue (cos)", "hue (sin)", "water", "plants", "bubbles")
"""What varies without meaning, in the order of `Fish.nuisance`."""


@dataclass(frozen=True)
class Fish:
    """One instance: everything that decides its image.

    species: index into `ALL_SPECIES`, or None for a free combination of details. form: "slender" or "deep". details:
    which of `DETAILS` it shows, booleans of shape (16,). x, y: centre of the body in pixels from the middle of the image.
    scale: size relative to the mean. tilt: degrees, nose up positive. hue, water: of body and water in degrees; yellow
    and orange bodies are left out, for two details own them. seed: fixes what has no name, such as where the plants
    stand.
    """

    species: int | None
    form: str
    details: tuple[bool, ...]
    x: float
    y: float
    scale: float
    tilt: float
    hue: float
    water: float
    plants: int
    bubbles: int
    seed: int

    @property
    def nuisance(self) -> np.ndarray:
        """The nuisances, each scaled to about unit deviation, shape (9,), in the order of `NUISANCES`."""
        hue = math.radians(self.hue)
        body = [self.x / 1.6, self.y / 2.9, (self.scale - 1) / 0.07, self.tilt / 8]
        colours = [math.cos(hue) * 1.4, math.sin(hue) * 1.4, (self.water - 200) / 14]
        counts = [(self.plants - 1) / 0.8, (self.bubbles - 1.5) / 1.1]
        return np.array(body + colours + counts, dtype=np.float32)


def sample_fish(rng: np.random.Generator, species: int | None = None, complete: bool = False) -> Fish:
    """Draw an instance: of a species with its missing and foreign details, or a free combination if species is None.

    Free combinations let an attribute detector learn details without ever using the species as a clue.
    `complete` draws a species with all of its details and no other.
    """
    details = np.zeros(len(DETAILS), dtype=bool)
    if species is None:
        form = str(rng.choice(["slender", "deep"]))
        if tail := rng.integers(0, 4):
            details[tail - 1] = True
        if dorsal := rng.integers(0, 3):
            details[len(TAILS) + dorsal - 1] = True
        details[len(TAILS) + len(DORSALS) : _PLAIN] = rng.random(len(MARKS)) < 0.35
        for i, plain in enumerate(COUNTED.values(), _PLAIN):
            if details[DETAILS.index(plain)] and rng.random() < 0.5:
                details[DETAILS.index(plain)], details[i] = False, True
    else:
        form = ALL_SPECIES[species].form
        own = ALL_SPECIES[species].mask
        details = own.copy()
        if not complete:
            details[:_PLAIN] &= rng.random(_PLAIN) >= MISSING
            if own[_PLAIN:].any():
                details[_PLAIN:] &= rng.random(len(COUNTED)) >= MISSING
            if rng.random() < FOREIGN:
                candidates = [i for i in np.flatnonzero(~own[:_PLAIN]) if _fits(details, int(i))]
                details[rng.choice(candidates)] = True
    return Fish(
        species=species,
        form=form,
        details=tuple(bool(d) for d in details),
        x=float(rng.uniform(-2.8, 2.8)),
        y=float(rng.uniform(-5, 5)),
        scale=float(rng.uniform(0.88, 1.12)),
        tilt=float(rng.uniform(-14, 14)),
        hue=float(rng.uniform(95, 345)),
        water=float(rng.uniform(176, 224)),
        plants=int(rng.integers(0, 3)),
        bubbles=int(rng.integers(0, 4)),
        seed=int(rng.integers(0, 2**31)),
    )


def _fits(details: np.ndarray, new: int) -> bool:
    """Whether a detail can join: a fish has one tail, one dorsal fin, one number of bars and one of eyespots."""
    shown = {name for name, is_shown in zip(DETAILS, details, strict=True) if is_shown}
    return not any(DETAILS[new] in group and shown & set(group) for group in EXCLUSIVE)


def render(fish: Fish) -> Image.Image:
    """Draw an instance: an RGB image of 64 x 64 pixels, the fish facing right."""
    canvas = _Canvas(fish)
    has = {name: fish.details[i] for i, name in enumerate(DETAILS)}
    _draw_water(canvas, fish)
    _draw_tail(canvas, has)
    _draw_dorsal(canvas, fish, has)
    _draw_body(canvas, fish, has)
    if has["chin barbels"]:
        for tip in ((0.66, -0.72), (0.96, -0.70)):
            root = (0.76, -0.62 * canvas.height)
            canvas.line([root, ((root[0] + tip[0]) / 2 + 0.04, tip[1] * 0.72), tip], _CREAM, 0.11)
    return canvas.image.reduce(_SUPERSAMPLING)


_CREAM = (255, 244, 214)
_INK = (24, 22, 36)
_WHITE = (250, 250, 246)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return int(r * 255), int(g * 255), int(b * 255)


class _Canvas:
    """Drawing in body coordinates: the body spans x in [-1, 1], nose at +1, up is +y."""

    def __init__(self, fish: Fish) -> None:
        self.side = SIZE * _SUPERSAMPLING
        self.image = Image.new("RGB", (self.side, self.side))
        self.draw = ImageDraw.Draw(self.image)
        self.unit = 20.5 * _SUPERSAMPLING * fish.scale
        self.height = 0.46 if fish.form == "slender" else 0.72
        angle = math.radians(fish.tilt)
        self._cos, self._sin = math.cos(angle), math.sin(angle)
        # The tail makes the fish longer behind than before, so its body stands right of the middle.
        self._x = self.side / 2 + (fish.x + 5.0) * _SUPERSAMPLING
        self._y = self.side / 2 + (fish.y + 2.0) * _SUPERSAMPLING
        self.body_colour = _rgb(fish.hue, 0.62, 0.88)
        self.fin_colour = _rgb(fish.hue, 0.75, 0.60)

    def points(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        unit, cos, sin = self.unit, self._cos, self._sin
        return [(self._x + unit * (x * cos - y * sin), self._y - unit * (x * sin + y * cos)) for x, y in points]

    def polygon(self, points: list[tuple[float, float]], fill: tuple[int, int, int], outline: bool = True) -> None:
        corners = self.points(points)
        self.draw.polygon(corners, fill=fill)
        if outline:
            self.draw.line([*corners, corners[0]], fill=_INK, width=_SUPERSAMPLING)

    def line(self, points: list[tuple[float, float]], fill: tuple[int, int, int], width: float) -> None:
        self.draw.line(self.points(points), fill=fill, width=max(1, round(width * self.unit)), joint="curve")

    def disc(self, centre: tuple[float, float], radius: float, fill: tuple[int, int, int]) -> None:
        (x, y), r = self.points([centre])[0], radius * self.unit
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _ellipse(cx: float, cy: float, rx: float, ry: float, n: int = 24) -> list[tuple[float, float]]:
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in np.linspace(0, 2 * math.pi, n, endpoint=False)]


def _body_outline(height: float) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    return [(math.cos(a), height * math.sin(a) * (0.84 + 0.16 * math.cos(a))) for a in angles]


def _draw_water(canvas: _Canvas, fish: Fish) -> None:
    rng = np.random.default_rng(fish.seed)
    top, bottom = np.array(_rgb(fish.water, 0.55, 0.72)), np.array(_rgb(fish.water + 8, 0.75, 0.38))
    ramp = np.linspace(0, 1, SIZE)[:, None, None]
    water = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (SIZE, SIZE, 3)).astype(np.uint8)
    canvas.image.paste(Image.fromarray(water).resize((canvas.side, canvas.side), Image.Resampling.BILINEAR))
    s = _SUPERSAMPLING
    floor = canvas.side - int(rng.integers(5, 9)) * s
    canvas.draw.rectangle((0, floor, canvas.side, canvas.side), fill=(206, 186, 140))
    for _ in range(fish.plants):
        x, height, sway = rng.uniform(4, SIZE - 4) * s, rng.uniform(14, 26) * s, rng.uniform(1.5, 3.5) * s
        stalk = [(x + sway * math.sin(k * 1.1 + x), floor + 2 * s - height * k / 8) for k in range(9)]
        canvas.draw.line(stalk, fill=(38, 122, 86), width=3 * s, joint="curve")
    for _ in range(fish.bubbles):
        x, y, r = rng.uniform(3, SIZE - 3) * s, rng.uniform(3, SIZE * 0.4) * s, rng.uniform(1.4, 2.6) * s
        canvas.draw.ellipse((x - r, y - r, x + r, y + r), outline=(214, 240, 248), width=s)


def _draw_tail(canvas: _Canvas, has: dict[str, bool]) -> None:
    if has["forked tail"]:
        shape = [(-0.8, 0.13), (-1.2, 0.30), (-1.62, 0.66), (-1.22, 0.0), (-1.62, -0.66), (-1.2, -0.30), (-0.8, -0.13)]
    elif has["rounded tail"]:
        shape = [(-0.8, 0.12), *_ellipse(-1.26, 0.0, 0.38, 0.48)[2:-1], (-0.8, -0.12)]
    elif has["pointed tail"]:
        shape = [(-0.8, 0.13), (-1.0, 0.36), (-1.7, 0.0), (-1.0, -0.36), (-0.8, -0.13)]
    else:
        shape = [(-0.8, 0.12), (-1.22, 0.24), (-1.22, -0.24), (-0.8, -0.12)]
    canvas.polygon(shape, canvas.fin_colour)


def _draw_dorsal(canvas: _Canvas, fish: Fish, has: dict[str, bool]) -> None:
    h, base = canvas.height, 0.78 * canvas.height
    if has["spiky dorsal fin"]:
        shape = [(-0.62, base * 0.7)]
        for i in range(4):
            x = -0.52 + 0.27 * i
            shape += [(x - 0.04, h + 0.36), (x + 0.13, h + 0.02)]
        shape += [(0.55, base * 0.7)]
    elif has["sail dorsal fin"]:
        shape = [(-0.6, base * 0.6), (-0.52, h + 0.62), (-0.25, h + 0.55), (0.1, h + 0.32), (0.5, base * 0.8)]
    else:
        shape = [(-0.45, base * 0.6), (-0.35, h + 0.08), (0.2, h + 0.08), (0.4, base * 0.8)]
    canvas.polygon(shape, canvas.fin_colour)


def _draw_body(canvas: _Canvas, fish: Fish, has: dict[str, bool]) -> None:
    """The body, and the marks that lie on it: painted on a copy and kept within the body's outline."""
    h, outline = canvas.height, _body_outline(canvas.height)
    corners = canvas.points(outline)
    mask = Image.new("L", canvas.image.size)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    below, canvas.image = canvas.image, canvas.image.copy()
    canvas.draw = ImageDraw.Draw(canvas.image)
    canvas.polygon(outline, canvas.body_colour, outline=False)
    if has["white belly"]:
        canvas.polygon([(-1.1, -0.38 * h), (1.1, -0.38 * h), (1.1, -1.2), (-1.1, -1.2)], _WHITE, outline=False)
    if has["orange snout"]:
        canvas.polygon([(0.76, 1.2), (1.2, 1.2), (1.2, -1.2), (0.76, -1.2)], (255, 132, 22), outline=False)
    if has["pale stripe"]:
        canvas.polygon([(-1.1, 0.13), (0.5, 0.13), (0.5, -0.07), (-1.1, -0.07)], (255, 250, 226), outline=False)
    for x in (-0.5, -0.12, 0.26) if has["dark bars"] else (-0.36, 0.1) if has["two dark bars"] else ():
        canvas.polygon([(x - 0.075, 1), (x + 0.075, 1), (x + 0.075, -1), (x - 0.075, -1)], _INK, outline=False)
    if has["dark spots"]:
        for row, y in enumerate((0.55 * h, 0.02, -0.5 * h)):
            for k in range(3):
                canvas.disc((-0.52 + 0.36 * k + 0.12 * (row % 2), y), 0.085, _INK)
    if has["black eye mask"]:
        canvas.polygon([(0.50, 1), (0.74, 1), (0.74, -1), (0.50, -1)], _INK, outline=False)
    for x in (-0.66,) if has["ringed eyespot"] else (-0.66, -0.2) if has["two eyespots"] else ():
        canvas.disc((x, 0.02), 0.22, (255, 255, 255))
        canvas.disc((x, 0.02), 0.13, (10, 10, 16))
    canvas.image = Image.composite(canvas.image, below, mask)
    canvas.draw = ImageDraw.Draw(canvas.image)
    canvas.draw.line([*corners, corners[0]], fill=_INK, width=_SUPERSAMPLING)
    fin = (255, 222, 20) if has["yellow side fin"] else canvas.fin_colour
    canvas.polygon([(0.34, 0.02), (-0.04, -0.08), (-0.20, -0.46), (0.20, -0.32)], fin)
    canvas.disc((0.62, 0.26 * h), 0.125, _WHITE)
    canvas.disc((0.64, 0.26 * h), 0.07, _INK)


def sample_set(
    seed: int,
    per_species: int | None = None,
    free: int = 0,
    complete: bool = False,
    species: Sequence[int] = range(len(SPECIES)),
) -> list[Fish]:
    """Instances from one seed: `per_species` of each species in turn, then `free` free combinations."""
    rng = np.random.default_rng(seed)
    fish = [sample_fish(rng, s, complete) for _ in range(per_species or 0) for s in species]
    return fish + [sample_fish(rng) for _ in range(free)]


def render_array(fish: list[Fish]) -> np.ndarray:
    """Images of many instances, uint8 of shape (N, 64, 64, 3)."""
    return np.stack([np.asarray(render(f)) for f in fish]) if fish else np.empty((0, SIZE, SIZE, 3), np.uint8)


def attributes(fish: list[Fish]) -> np.ndarray:
    """Details that instances show, booleans of shape (N, 16)."""
    return np.array([f.details for f in fish], dtype=bool).reshape(len(fish), len(DETAILS))
