"""Recipes: one YAML file decides everything that a run does.

The keys fall into three kinds. Most decide *what an image is*: they are the set's identity, and a directory that was
begun with others is refused. `HOW` keys only decide how images are made (workers, device, ...), and `ipc` only how
many: with the same identity a finished directory grows in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources as package_files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from concord.errors import ConcordError, nearest

HOW = frozenset({"device", "workers", "threads", "unreadable"})
"""Top-level keys that decide how images are made, not what they are."""
_BESIDE_IDENTITY = HOW | {"ipc", "name"}
BUILT_IN_DATA = ("reef",)
"""Values of `data` that name a data set of the package rather than a folder."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Format(_Part):
    """How an image is written: `png` and lossless `webp` keep every pixel; `quality` is of `jpeg` alone."""

    kind: Literal["png", "webp", "jpeg"] = "png"
    quality: Annotated[int, Field(ge=1, le=100)] = 95


class Pipeline(_Part):
    """The diffusion model: a directory or hub id for `from_pretrained`, and how it is sampled.

    `channels`: classifier-free guidance on the first n latent channels only (3 in the original DiT), null for all.
    """

    model: str = "facebook/DiT-XL-2-256"
    tiny_decoder: str | None = None
    steps: PositiveInt = 50
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 4.0
    scheduler: Literal["ddim", "ddpm", "stock"] = "ddim"
    channels: PositiveInt | None = None


class ObjectiveWeights(_Part):
    """Weights of the summed objectives; 0 leaves one out (the paper's Table 7)."""

    contrastive: Weight = 1.0
    cosine: Weight = 0.0
    class_name: Weight = 0.0
    classifier: Weight = 0.0


class Informing(_Part):
    """Concept informing: `weight` is the paper's lambda (modes exact and mean), `strength` the fast mode's own.

    `temperature` null takes the encoder's learned one; `window` is a part of the schedule, as fractions.
    """

    enabled: bool = True
    mode: Literal["fast", "exact", "mean"] = "fast"
    weight: Weight = 1.0
    strength: Weight = 0.1
    objective: ObjectiveWeights = ObjectiveWeights()
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    window: tuple[Fraction, Fraction] = (0.0, 1.0)
    every: PositiveInt = 1
    decoder: Literal["full", "tiny"] = "full"
    classifier: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Informing:
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window: expected start below end, got {list(self.window)}")
        if self.enabled and not any(self.objective.model_dump().values()):
            raise ValueError("objective: every weight is 0; raise one, or say informing.enabled=false")
        if self.enabled and self.objective.classifier and not self.classifier:
            raise ValueError("classifier: objective.classifier needs a model here")
        return self


class Negatives(_Part):
    """How negative concepts are drawn: from all other classes alike, by name similarity, or of the `k` nearest."""

    kind: Literal["weighted", "random", "similar"] = "weighted"
    k: PositiveInt = 5
    count: Annotated[int, Field(ge=0)] = 10


class Concepts(_Part):
    """Which concepts inform: a bank (name or file), how many a class keeps by validity (Eq. 10), pinned phrases.

    `images`: real images a class for the selection, null for all of them.
    """

    bank: str | None = None
    keep: PositiveInt = 5
    images: PositiveInt | None = 100
    pinned: dict[str, list[str]] = {}
    negatives: Negatives = Negatives()


class Scorer(_Part):
    """What rates images against a class's concepts: an attribute detector, percentiles of similarity, or nothing."""

    kind: Literal["detector", "percentile", "none"] = "none"
    model: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Scorer:
        if self.kind == "detector" and not self.model:
            raise ValueError("model: the detector needs a model here")
        return self


class Recipe(_Part):
    """All that decides a run; see the module's text for the kinds of keys.

    `data` is a folder of class folders, or `reef`. `classes` (folders or class names) takes a part of them;
    `class_names` maps a folder to the name that texts use. `size` is the side of the stored square in pixels,
    null for images as they are. `uninformed` also makes the same samples without informing.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str = "custom"
    method: Literal["dit", "generate", "random", "full"] = "dit"
    data: Annotated[str, Field(min_length=1)]
    classes: list[str] | None = None
    class_names: dict[str, str] = {}
    ipc: PositiveInt = 10
    seed: Annotated[int, Field(ge=0, lt=2**48)] = 0
    size: PositiveInt | None = None
    format: Format = Format()
    batch_size: PositiveInt = 10
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    uninformed: bool = False
    encoder: str = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    pipeline: Pipeline = Pipeline()
    informing: Informing = Informing()
    concepts: Concepts = Concepts()
    scorer: Scorer = Scorer()
    teacher: str | None = None
    nuisance: str | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    workers: Literal["auto"] | PositiveInt = "auto"
    threads: PositiveInt = 1
    unreadable: Literal["error", "skip"] = "error"


def identity(recipe: Recipe) -> dict[str, Any]:
    """Return the part of a recipe that decides what an image is, as plain JSON values."""
    return recipe.model_dump(mode="json", by_alias=True, exclude=set(_BESIDE_IDENTITY))


def differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys at which two identities differ, in the recipe's order."""
    keys = []
    for key in [*old, *(k for k in new if k not in old)]:
        a, b = old.get(key), new.get(key)
        # A free map (class_names, pinned) is compared as a whole: its keys are the user's, with dots of their own.
        if isinstance(a, dict) and isinstance(b, dict) and key not in ("class_names", "pinned"):
            keys += differing(a, b, f"{prefix}{key}.")
        elif a != b:
            keys.append(prefix + key)
    return keys


def models(recipe: Recipe) -> dict[str, str]:
    """Return the models that the recipe's method will load: dotted key -> directory or hub id."""
    if recipe.method in ("random", "full"):
        return {}
    informing, weights = recipe.informing, recipe.informing.objective
    needed = {"pipeline.model": recipe.pipeline.model}
    if recipe.pipeline.tiny_decoder and informing.enabled and informing.decoder == "tiny":
        needed["pipeline.tiny_decoder"] = recipe.pipeline.tiny_decoder
    if (informing.enabled and (weights.contrastive or weights.cosine or weights.class_name)) or (
        recipe.scorer.kind == "percentile"
    ):
        needed["encoder"] = recipe.encoder
    if informing.enabled and weights.classifier and informing.classifier:
        needed["informing.classifier"] = informing.classifier
    if recipe.scorer.kind == "detector" and recipe.scorer.model:
        needed["scorer.model"] = recipe.scorer.model
    for key, model in (("teacher", recipe.teacher), ("nuisance", recipe.nuisance)):
        if model:
            needed[key] = model
    return needed


def bundled() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = package_files.files("concord") / "recipes"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a bundled recipe by name, or a YAML file, or the recipe of an earlier run's directory.

    Args:
        name_or_path: ``reef``, ``my/recipe.yaml``, or a directory with a ``recipe.yaml``.
        overrides: ``key=value`` texts with dotted keys, as in ``informing.strength=0.2``; a value is YAML.
            A relative `data` is taken from the working directory and becomes absolute.

    Raises:
        ConcordError: unknown recipe or key (with the nearest name), or a value that does not fit.
    """
    text, default_name = _text(name_or_path)
    values = _parse(text, name_or_path)
    if not isinstance(values, dict):
        raise ConcordError(f'recipe "{name_or_path}": expected keys and values, as in "method: dit"')
    values.setdefault("name", default_name)
    for override in overrides:
        _override(values, override)
    return validate(values, f'recipe "{name_or_path}"')


def validate(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Turn plain values into a `Recipe`.

    Raises:
        ConcordError: a line naming every key that is unknown or has an unfitting value.
    """
    try:
        recipe = Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise ConcordError(f"{where}: {_complaints(error)}") from None
    if recipe.data in BUILT_IN_DATA:
        return recipe
    return recipe.model_copy(update={"data": str(Path(recipe.data).expanduser().absolute())})


def to_yaml(recipe: Recipe) -> str:
    """Return the resolved recipe, every key spelled out, in the order of the schema."""
    values = recipe.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def keys() -> list[str]:
    """Return every dotted key that a recipe may hold."""
    return list(_walk(Recipe))


def _walk(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, f"{key}.")


def _text(name_or_path: str) -> tuple[str, str]:
    """Return the YAML text of a recipe and the name it has when it bears none itself."""
    path = Path(name_or_path).expanduser()
    if name_or_path in bundled():
        file = package_files.files("concord") / "recipes" / f"{name_or_path}.yaml"
        return file.read_text(encoding="utf-8"), name_or_path
    if path.is_dir() and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    if not path.is_file():
        known = ", ".join(bundled())
        hint = nearest(name_or_path, bundled())
        raise ConcordError(f'unknown recipe "{name_or_path}"{hint}; bundled are {known}, or give a YAML file')
    try:
        return path.read_text(encoding="utf-8"), path.stem
    except UnicodeDecodeError:
        raise ConcordError(f"{path} is not a recipe: expected a YAML text in UTF-8") from None


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConcordError(f'recipe "{where}"{line}: {problem}') from None


def _override(values: dict[str, Any], override: str) -> None:
    """Set one ``key=value`` in nested plain values, in place."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConcordError(f'expected key=value, as in ipc=10, got "{override}"')
    path, annotation = _target(key)
    level = values
    for name in path[:-1]:
        inner = level.get(name)
        level[name] = dict(inner) if isinstance(inner, dict) else {}
        level = level[name]
    level[path[-1]] = _value(text, annotation, key)


def _target(key: str) -> tuple[list[str], Any]:
    """Return the path and the annotation of a dotted key; what follows a free map's name is one key of it."""
    model: type[BaseModel] = Recipe
    names = key.split(".")
    for depth, name in enumerate(names):
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == name), None)
        if field is None:
            break
        annotation, rest = field.annotation, names[depth + 1 :]
        if not rest:
            return names, annotation
        if get_origin(annotation) is dict:
            return [*names[: depth + 1], ".".join(rest)], get_args(annotation)[1]
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    raise ConcordError(f'unknown key "{key}"{_nearest_key(key)}')


def _nearest_key(key: str) -> str:
    """Hint at the key that was meant: the same last name in another part, else the one that looks most like it."""
    same_leaf = [known for known in keys() if known.rpartition(".")[2] == key.rpartition(".")[2]]
    if len(same_leaf) == 1:
        return f' (did you mean "{same_leaf[0]}"?)'
    leaves = {known.rpartition(".")[2]: known for known in reversed(keys())}
    whole = nearest(key, keys())
    leaf = nearest(key, leaves)
    if whole or not leaf:
        return whole
    name = leaf.split('"')[1]
    return f' (did you mean "{leaves[name]}"?)'


def _value(text: str, annotation: Any, key: str) -> Any:
    """Parse an override's value as YAML, except that text stays text: a folder may be called 007 or no."""
    plain, nullable = _plain(annotation)
    if nullable and text.strip().lower() in ("null", "~", "none", ""):
        return None
    if plain is str:
        return text
    is_text = get_origin(plain) in (list, dict) and str(plain).endswith("str]")
    try:
        # BaseLoader reads every scalar as text, so that classes=[001, no] names the folders 001 and no.
        value = yaml.load(text, yaml.BaseLoader if is_text else yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConcordError(f'{key}: cannot read the value "{text}"') from None
    if get_origin(plain) is list and is_text and isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return value


def _plain(annotation: Any) -> tuple[Any, bool]:
    """Strip Annotated and None from an annotation: (what is left, whether None was there)."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    parts = get_args(annotation)
    if type(None) in parts:
        rest = [p for p in parts if p is not type(None)]
        return (_plain(rest[0])[0] if len(rest) == 1 else annotation), True
    return annotation, False


_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text (in YAML, put it in quotes)",
    "list_type": "a list, as in [a, b]",
    "tuple_type": "a list, as in [0, 1]",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "string_pattern_mismatch": "auto, cpu, mps, cuda or cuda:0",
}
"""What pydantic's error types mean to a user."""


def _complaints(error: ValidationError) -> str:
    """Say every key that is wrong, once each, in the order of the recipe."""
    by_key: dict[str, list[Any]] = {}
    for one in error.errors():
        # A union adds the tried type to the place, as in workers.constrained-int; a user knows the key alone.
        places = [str(part) for part in one["loc"]]
        key = ".".join(place for place in places if "[" not in place and place != "constrained-int")
        by_key.setdefault(key, []).append(one)
    return "; ".join(_complaint(key, ones) for key, ones in by_key.items())


def _complaint(key: str, errors: Sequence[Any]) -> str:
    """Say what is wrong with one key; a value that fits none of several types has several errors."""
    first = errors[0]
    kind, message, given = first["type"], str(first["msg"]), first.get("input")
    if kind == "extra_forbidden":
        return f'unknown key "{key}"{_nearest_key(key)}'
    if key == "data" and kind in ("missing", "string_too_short"):
        return "data is missing: name a folder with a folder of images for each class, as in data=photos"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "value_error":
        return ".".join(part for part in (key, message.removeprefix("Value error, ")) if part)
    hint, expected = "", []
    for error in errors:
        if error["type"] == "literal_error":
            choices = str(error["ctx"]["expected"])
            expected.append(choices)
            hint = hint or nearest(str(given), choices.replace("'", "").replace(" or ", ", ").split(", "))
        else:
            text = str(error["msg"]).removeprefix("Input should be ").removeprefix("Input should ")
            expected.append(_EXPECTED.get(error["type"], text))
    return f"{key}: expected {' or '.join(expected)}, got {given!r}{hint}"
