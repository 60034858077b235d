"""Recipes: one YAML file decides everything that a run does.

The keys fall into three kinds. Most decide *what an image is*: they are the set's identity, and a directory that was
begun with others is refused. `RUNTIME_KEYS` only decide how images are made (workers, device, ...), and `ipc` only
how many: with the same identity a finished directory grows in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources as package_files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from concord.errors import ConcordError
from concord.registry import DATASETS
from concord.settings import complaints, override
from concord.text import nearest

RUNTIME_KEYS = frozenset({"device", "workers", "threads", "unreadable", "memory"})
"""Top-level keys that decide how images are made, not what they are."""


_BESIDE_IDENTITY = RUNTIME_KEYS | {"ipc", "name"}


CHOSEN = ("random", "full", "k_center", "herding", "rded")
"""Methods that take their images from real ones: no diffusion model makes them, and nothing informs them."""


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


DEFAULTS: dict[str, dict[str, str]] = {
    "dit": {"model": "facebook/DiT-XL-2-256"},
    "generate": {"model": "facebook/DiT-XL-2-256"},
    "minimax": {"model": "facebook/DiT-XL-2-256"},
    "unclip": {"model": "radames/stable-diffusion-2-1-unclip-img2img"},
    "text": {"scheduler": "stock"},
}
"""What `pipeline` holds for each method where a recipe does not say."""


_ONLY_FOR = {
    "checkpoints": ("minimax",),
    "channels": ("dit", "generate", "minimax"),
    "size": ("unclip", "text"),
    "noise_level": ("unclip",),
    "prompts": ("unclip", "text"),
    "image_strength": ("text",),
}
"""Keys of `pipeline` that only some methods read; for another they would be passed over without a word."""


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
    method: Literal["dit", "minimax", "unclip", "text", "generate", "random", "full", "k_center", "herding", "rded"] = (
        "dit"
    )
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

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """Fill in what `pipeline` holds for the method, and the features of a coreset."""
        if not isinstance(values, dict) or not isinstance(values.get("pipeline", {}), dict):
            return values  # the fields say what is wrong
        if values.get("method") in ("k_center", "herding") and values.get("features") is None:
            values = {**values, "features": "teacher" if values.get("teacher") else "pixels"}
        given = {key: value for key, value in values.get("pipeline", {}).items() if value is not None or key != "model"}
        return {**values, "pipeline": DEFAULTS.get(str(values.get("method", "dit")), {}) | given}

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        for key, methods in _ONLY_FOR.items():
            is_set = getattr(self.pipeline, key) != type(self.pipeline).model_fields[key].default
            if is_set and self.method not in (*methods, *CHOSEN):
                raise ValueError(f"pipeline.{key} is for method {' or '.join(methods)}, not for {self.method}")
        if self.teacher is None and (self.method == "rded" or self.features == "teacher"):
            what = "method rded" if self.method == "rded" else "features teacher"
            raise ValueError(f"teacher is missing: {what} needs a classifier of the data's classes, as in teacher=DIR")
        if self.method == "text" and self.pipeline.model is None:
            raise ValueError(
                "pipeline.model is missing: name a text-to-image pipeline (a directory or hub id), as in"
                " pipeline.model=stable-diffusion-v1-5/stable-diffusion-v1-5"
            )
        if self.method == "minimax" and not self.pipeline.checkpoints:
            raise ValueError(
                "pipeline.checkpoints is missing: map each directory that `concord convert` wrote to its classes, as"
                " in pipeline.checkpoints={models/minimax: all}"
            )
        return self


def identity(recipe: Recipe) -> dict[str, Any]:
    """Return the part of a recipe that decides what an image is, as plain JSON values."""
    return recipe.model_dump(mode="json", by_alias=True, exclude=set(_BESIDE_IDENTITY))


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
    if recipe.method in CHOSEN:
        space = {"rded": "teacher", "k_center": recipe.features, "herding": recipe.features}.get(recipe.method)
        named = {"teacher": recipe.teacher, "encoder": recipe.encoder}
        return {key: model for key, model in named.items() if key == space and model}
    informing, weights = recipe.informing, recipe.informing.objective
    needed = {"pipeline.model": recipe.pipeline.model or ""}
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
    return needed | {f"pipeline.checkpoints {n}": path for n, path in enumerate(recipe.pipeline.checkpoints, 1)}


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
    for text in overrides:
        override(Recipe, values, text)
    return validate(values, f'recipe "{name_or_path}"')


def validate(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Turn plain values into a `Recipe`.

    Raises:
        ConcordError: a line naming every key that is unknown or has an unfitting value.
    """
    try:
        recipe = Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise ConcordError(f"{where}: {complaints(Recipe, error)}") from None
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
