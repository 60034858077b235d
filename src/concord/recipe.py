"""Recipes: one YAML file decides everything that a run does.

The keys fall into three kinds. Most decide *what an image is*: they are the set's identity, and a directory that was
begun with others is refused. `RUNTIME_KEYS` only decide how images are made (workers, device, ...), and `ipc` only
how many: with the same identity a finished directory grows in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources as package_files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from concord.errors import ConcordError
from concord.registry import DATASETS, METHODS, MethodSpec
from concord.settings import complaints, known, override
from concord.text import nearest

RUNTIME_KEYS = frozenset({"device", "workers", "threads", "unreadable", "memory"})
"""Top-level keys that decide how images are made, not what they are."""


_BESIDE_IDENTITY = RUNTIME_KEYS | {"ipc", "name"}


_FREE_MAPS = ("class_names", "pinned", "checkpoints")


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

    `model` and `scheduler` have a default for each method (`DEFAULTS`). `checkpoints` (minimax) maps a directory that
    `concord convert` wrote to its classes: folders, names or WordNet ids, a class list's name, a range of ImageNet ids
    (``0-19``), or ``all``. `guidance_scale` null takes the pipeline's own default. `scheduler`: ``ddim`` is the
    paper's; ``minimax`` is DDPM with learned variance and guidance on 3 channels, as that repository samples.
    `channels`: guidance on the first n latent channels only, null for all (for ``minimax``, 3). `size`: side of the
    made image in pixels before it is stored, null for the model's own. `noise_level` (unclip): noise on the condition
    image's embedding, 0 to 999. `prompts` (unclip, text): templates with a slot ``{class}``, null for concord's own 28.
    `image_strength` (text): start from a real image of the class with so much noise (0 to 1), null from noise alone.
    """

    model: str | None = None
    checkpoints: dict[str, str | list[str]] = {}
    tiny_decoder: str | None = None
    steps: PositiveInt = 50
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    scheduler: Literal["ddim", "ddpm", "minimax", "stock"] = "ddim"
    channels: PositiveInt | None = None
    size: PositiveInt | None = None
    noise_level: Annotated[int, Field(ge=0, lt=1000)] = 0
    prompts: Annotated[list[str], Field(min_length=1)] | None = None
    image_strength: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _some_steps(self) -> Pipeline:
        if self.image_strength is not None and int(self.steps * self.image_strength) < 1:
            raise ValueError(
                f"image_strength: {self.image_strength} of {self.steps} steps is less than one step, so that nothing"
                f" would be made; give at least {1 / self.steps:.3g}"
            )
        return self

    @field_validator("prompts")
    @classmethod
    def _slots(cls, prompts: list[str] | None) -> list[str] | None:
        lacking = [prompt for prompt in prompts or [] if "{class}" not in prompt]
        if lacking:
            raise ValueError(f'expected the slot {{class}} in every template, not in "{lacking[0]}"')
        return prompts


class ObjectiveWeights(_Part):
    """Weights of the summed objectives; 0 leaves one out (the paper's Table 7)."""

    contrastive: Weight = 1.0
    cosine: Weight = 0.0
    class_name: Weight = 0.0
    classifier: Weight = 0.0


class Informing(_Part):
    """Concept informing: `weight` is the paper's lambda (modes exact and mean), `strength` the fast mode's own.

    `temperature` null takes the encoder's learned one; `window` is a part of the schedule, as fractions. `every`: a
    gradient at each so-manieth step of it; `between`: what the other steps do. `decode_size`: pixels of the
    shorter side that is decoded for the gradient, ``auto`` what the encoder sees, null the whole image. `stop`: leave
    an image alone once its loss is among the lowest such share of its class's real images (0.5: below their median),
    null never.
    """

    enabled: bool = True
    mode: Literal["fast", "exact", "mean"] = "fast"
    weight: Weight = 1.0
    strength: Weight = 0.1
    objective: ObjectiveWeights = ObjectiveWeights()
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    window: tuple[Fraction, Fraction] = (0.0, 1.0)
    every: PositiveInt = 1
    between: Literal["none", "hold", "extrapolate"] = "none"
    decoder: Literal["full", "tiny"] = "full"
    decode_size: Literal["auto"] | PositiveInt | None = None
    stop: Annotated[float, Field(gt=0, lt=1)] | None = None
    classifier: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Informing:
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window: expected start below end, got {list(self.window)}")
        if self.enabled and not any(self.objective.model_dump().values()):
            raise ValueError("objective: every weight is 0; raise one, or say informing.enabled=false")
        if self.enabled and self.objective.classifier and not self.classifier:
            raise ValueError("classifier: objective.classifier needs a model here")
        if self.stop is not None and self.objective.classifier:
            raise ValueError("stop: it compares embeddings with those of real images; set objective.classifier to 0")
        return self


class Negatives(_Part):
    """How negative concepts are drawn: from all other classes alike, by name similarity, or of the `k` nearest.

    ``similar-8`` is short for kind ``similar`` with k 8, as the paper's Table 5 writes it.
    """

    kind: Literal["weighted", "random", "similar"] = "weighted"
    k: PositiveInt = 5
    count: Annotated[int, Field(ge=0)] = 10

    @model_validator(mode="before")
    @classmethod
    def _short(cls, values: Any) -> Any:
        kind = values.get("kind") if isinstance(values, dict) else None
        if not isinstance(kind, str) or not kind.startswith("similar-"):
            return values
        k = kind.removeprefix("similar-")
        return {**values, "kind": "similar"} | ({"k": int(k)} if k.isdigit() else {})


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


class Rded(_Part):
    """How RDED puts an image together: of `factor` x `factor` crops, the best by the teacher of `crops` from each of
    `images` real images a class. Its authors have 2, 5 and 300, and factor 1 at 32 pixels.
    """

    factor: Annotated[int, Field(ge=1, le=8)] = 2
    crops: PositiveInt = 5
    images: PositiveInt = 300


class Memory(_Part):
    """What trades time and memory and leaves images as they are, but for rounding (`vae: tiled` blends seams).

    `vae`: decode all at once, image by image (``sliced``) or in tiles. `checkpointing`: recompute activations in the
    backward pass of exact informing. `batch`: images at once on the device, null for the whole `batch_size`; it halves
    by itself where memory runs out. `compile`: denoiser, decoders and encoder by torch.compile, which takes minutes at
    first. `channels_last`: the layout that convolutions in half precision are fastest in on GPUs.
    """

    vae: Literal["plain", "sliced", "tiled"] = "plain"
    checkpointing: bool = False
    batch: PositiveInt | None = None
    compile: bool = False
    channels_last: bool = False


_READ_BY_ALL = ("model", "tiny_decoder", "steps", "guidance_scale", "scheduler")
"""Keys of `pipeline` that every diffusion method reads; the others would be passed over without a word."""


class Recipe(_Part):
    """All that decides a run; see the module's text for the kinds of keys.

    `data` is a folder of class folders, a Parquet file or folder of such, or `reef`. `classes` (folders, class names,
    or class lists such as imagewoof) takes a part of them;
    `class_names` maps a folder to the name that texts use. `size` is the side of the stored square in pixels,
    null for images as they are. `uninformed` also makes the same samples without informing. `features` (k_center,
    herding): where images are near each other, in the `encoder`'s space, the `teacher`'s, or as `pixels`; null is the
    teacher's where one is named, else pixels, which need no model. `dtype` of the networks:
    ``auto`` is bfloat16 on CUDA and float32 elsewhere; similarities, schedules and objectives are float32 always.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str = "custom"
    method: Annotated[str, known(METHODS)] = "dit"
    data: Annotated[str, Field(min_length=1)]
    classes: list[str] | None = None
    class_names: dict[str, str] = {}
    ipc: PositiveInt = 10
    seed: Annotated[int, Field(ge=0, lt=2**48)] = 0
    size: PositiveInt | None = None
    format: Format = Format()
    batch_size: PositiveInt = 10
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    uninformed: bool = False
    encoder: str = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    pipeline: Pipeline = Pipeline()
    informing: Informing = Informing()
    concepts: Concepts = Concepts()
    scorer: Scorer = Scorer()
    teacher: str | None = None
    nuisance: str | None = None
    features: Literal["encoder", "teacher", "pixels"] | None = None
    rded: Rded = Rded()
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    workers: Literal["auto"] | PositiveInt = "auto"
    threads: PositiveInt = 1
    unreadable: Literal["error", "skip"] = "error"
    memory: Memory = Memory()

    @field_validator("classes", mode="before")
    @classmethod
    def _listed(cls, classes: Any) -> Any:
        return [classes] if isinstance(classes, str) else classes

    @property
    def spec(self) -> MethodSpec:
        """What is known of the recipe's method."""
        return METHODS.get(self.method)

    @property
    def is_real(self) -> bool:
        """Whether the images are real ones or made of such: no diffusion model makes them, and nothing informs them."""
        return self.spec.kind == "real"

    @property
    def settings(self) -> Any:
        """The section of the method's own (`MethodSpec.settings`), or None where it has none."""
        return getattr(self, "settings_", None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as plain values: the class may be made for the method."""
        return _restored, (self.model_dump(by_alias=True),)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """Fill in what the method gives where the recipe does not say."""
        spec = _spec(values.get("method", "dit")) if isinstance(values, dict) else None
        if spec is None or not isinstance(values.get("pipeline", {}), dict):
            return values  # the fields say what is wrong
        given = {key: value for key, value in values.get("pipeline", {}).items() if value is not None or key != "model"}
        further = {key: value for key, value in spec.defaults(values).items() if values.get(key) is None}
        own: dict[str, Any] = {spec.name: {}} if spec.settings is not None else {}
        return {**own, **values, **further, "pipeline": {**spec.pipeline, **given}}

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        particular = [key for key in Pipeline.model_fields if key not in (*_READ_BY_ALL, *self.spec.pipeline_keys)]
        for key in particular if not self.is_real else ():
            if getattr(self.pipeline, key) != Pipeline.model_fields[key].default:
                raise ValueError(f"pipeline.{key} is for method {' or '.join(_readers(key))}, not for {self.method}")
        self.spec.check(self)
        if self.teacher is None and self.features == "teacher":
            raise ValueError(
                "teacher is missing: features teacher needs a classifier of the data's classes, as in teacher=DIR"
            )
        return self


def _spec(method: Any) -> MethodSpec | None:
    return METHODS.get(method) if isinstance(method, str) and method in METHODS else None


def _readers(key: str) -> list[str]:
    """The methods that read a key of `pipeline`, those that read few of them first."""
    specs = [spec for _, spec in METHODS.items() if isinstance(spec, MethodSpec) and key in spec.pipeline_keys]
    return [spec.name for spec in sorted(specs, key=lambda spec: len(spec.pipeline_keys))]


def recipe_class(method: Any) -> type[Recipe]:
    """Return the class of a method's recipes: `Recipe`, with a section of the method's name where it has settings.

    Raises:
        ConcordError: the method's package does not import, or the section's name is that of another key.
    """
    spec = _spec(method)
    return Recipe if spec is None or spec.settings is None else _with_section(spec.name)


@cache
def _with_section(name: str) -> type[Recipe]:
    if name in [field.alias or key for key, field in Recipe.model_fields.items()]:
        raise ConcordError(
            f'method "{name}" comes from the package {METHODS.package(name)} with settings of its own, but {name} is'
            " another key of recipes; rename it, or uninstall it"
        )
    settings: Any = METHODS.get(name).settings
    section: type[BaseModel] = create_model(name, __base__=(settings, _Part), __doc__=settings.__doc__)
    return create_model("Recipe", __base__=Recipe, settings_=(section, Field(alias=name)))


def _restored(values: dict[str, Any]) -> Recipe:
    return recipe_class(values["method"]).model_validate(values)


def is_real(method: Any) -> bool:
    """Whether a method, as a stored recipe names it, takes real images; no, where it is not installed."""
    spec = _spec(method)
    return spec is not None and spec.kind == "real"


def identity(recipe: Recipe) -> dict[str, Any]:
    """Return the part of a recipe that decides what an image is, as plain JSON values."""
    beside = _BESIDE_IDENTITY - {"ipc"} if recipe.spec.ipc == "joint" else _BESIDE_IDENTITY
    return recipe.model_dump(mode="json", by_alias=True, exclude=set(beside))


def differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys at which two identities differ, in the recipe's order."""
    keys = []
    for key in [*old, *(k for k in new if k not in old)]:
        a, b = old.get(key), new.get(key)
        # A free map is compared as a whole: its keys are the user's, with dots of their own.
        if isinstance(a, dict) and isinstance(b, dict) and key not in _FREE_MAPS:
            keys += differing(a, b, f"{prefix}{key}.")
        elif a != b:
            keys.append(prefix + key)
    return keys


def models(recipe: Recipe) -> dict[str, str]:
    """Return the models that the recipe's method will load: dotted key -> directory or hub id."""
    return dict(recipe.spec.models(recipe))


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
    written, default_name = _text(name_or_path)
    values = _parse(written, name_or_path)
    if not isinstance(values, dict):
        raise ConcordError(f'recipe "{name_or_path}": expected keys and values, as in "method: dit"')
    values.setdefault("name", default_name)
    for text in sorted(overrides, key=lambda text: text.partition("=")[0].strip() != "method"):
        override(recipe_class(values.get("method")), values, text)
    return validate(values, f'recipe "{name_or_path}"')


def validate(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Turn plain values into a `Recipe`.

    Raises:
        ConcordError: a line naming every key that is unknown or has an unfitting value.
    """
    shape = recipe_class(values.get("method"))
    try:
        recipe = shape.model_validate(dict(values))
    except ValidationError as error:
        raise ConcordError(f"{where}: {complaints(shape, error)}") from None
    if recipe.data in DATASETS:
        return recipe
    return recipe.model_copy(update={"data": str(Path(recipe.data).expanduser().absolute())})


def to_yaml(recipe: Recipe) -> str:
    """Return the resolved recipe, every key spelled out, in the order of the schema."""
    values = recipe.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


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
