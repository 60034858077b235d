"""`Recipe`, its identity, and the models that it needs."""

from collections.abc import Mapping
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from concord.choices import Unreadable
from concord.errors import ConcordError
from concord.recipe.sections import (
    RATED_BY,
    Concepts,
    Device,
    Format,
    Informing,
    Memory,
    Part,
    Pipeline,
    Rded,
    Scorer,
    Select,
    Workers,
)
from concord.registry import GUIDES, METHODS, METRICS, MethodSpec
from concord.settings import GreyRange, complaints, keys, known

RUNTIME_KEYS = frozenset({"device", "workers", "threads", "unreadable", "fingerprint", "memory", "max_pixels"})
"""Top-level keys that decide how images are made, not what they are."""
_BESIDE_IDENTITY = RUNTIME_KEYS | {"ipc", "name", "metrics"}
LATER = (
    *("guides", "metrics", "grey_range", "max_pixels", "select"),
    *("pipeline.scheduler_options", "pipeline.start", "pipeline.prototypes", "pipeline.guidance"),
    *("pipeline.negative_prompts", "pipeline.mirrors", "pipeline.ip_adapter", "pipeline.supply"),
    *("informing.push", "informing.inner", "informing.views", "informing.encoders"),
    "concepts.positives",
)
"""Keys of later versions: with their default they are not written, so that old directories know their recipe."""
_FREE_MAPS = ("class_names", "pinned", "checkpoints", "scheduler_options", "real")
_READ_BY_ALL = (
    *("model", "tiny_decoder", "steps", "guidance_scale", "guidance", "scheduler", "scheduler_options"),
    *("start", "image_strength", "prototypes", "mirrors", "supply"),
)
"""Keys of `pipeline` that every diffusion method reads; the others would be passed over without a word."""


def default(recipe: type[BaseModel], key: str) -> Any:
    """The default of a dotted key."""
    first, _, rest = key.partition(".")
    value = recipe.model_fields[first].default
    return attrgetter(rest)(value) if rest else value


def guide_settings(entry: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the name of an entry of `guides`, and its other keys as the settings of that guide."""
    name = str(entry["name"])
    return name, GUIDES.get(name).settings.model_validate({k: v for k, v in entry.items() if k != "name"})


def _guide(entry: Any) -> Any:
    """Check an entry of `guides`, and spell out what it leaves open."""
    entry = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict):
        return entry  # its type is what is wrong
    if "name" not in entry:
        raise PydanticCustomError("entry", "name is missing, as in {name: repulsion}")
    try:
        name, settings = guide_settings(entry)
    except ValidationError as error:
        said = complaints(GUIDES.get(str(entry["name"])).settings, error)
        raise PydanticCustomError("entry", "{said}", {"said": f"{entry['name']}: {said}"}) from None
    unknown = sorted(set(map(str, entry)) - {"name", *keys(type(settings))})
    if unknown:
        raise PydanticCustomError("entry", "{said}", {"said": f'{name}: unknown key "{unknown[0]}"'})
    return {"name": name, **settings.model_dump(mode="json")}


class Recipe(Part):
    """All that decides a run; `concord.recipe` says which kinds of keys there are."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    """Version of this format."""
    name: str = "custom"
    """What pages and data cards call the set; the file's name where it is not given."""
    method: Annotated[str, known(METHODS)] = "dit"
    """How the set is made; `concord methods` lists what is installed."""
    data: Annotated[str, Field(min_length=1)]
    """The large set: a folder of class folders, a Parquet file or a folder of such, or a name such as `reef`. A
    relative path in a recipe's file is taken from where the file lies, or else from the working directory."""
    classes: list[str] | None = None
    """A part of the classes: folders, class names, or class lists such as imagewoof; null takes all."""
    class_names: dict[str, str] = Field(default={})
    """A class's folder to the name that texts use."""
    ipc: PositiveInt = 10
    """Images of each class; a finished set grows in place where it is raised."""
    seed: Annotated[int, Field(ge=0, lt=2**48)] = 0
    """What all draws begin from."""
    size: PositiveInt | None = None
    """Side in pixels of the stored square; null keeps images as they are."""
    format: Format = Format()
    batch_size: PositiveInt = 10
    """Images that are sampled together; bytes depend on it."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the networks; `auto` is bfloat16 on CUDA and float32 elsewhere. Similarities, schedules and
    objectives are float32 always."""
    uninformed: bool = False
    """Also make the same samples without informing and guides, to compare with."""
    encoder: str = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    """The image-text encoder that informs, selects concepts and rates: a directory or hub id. A list informs by all of
    them (`informing.encoders`), and does the rest by its first."""
    pipeline: Pipeline = Pipeline()
    informing: Informing = Informing()
    concepts: Concepts = Concepts()
    guides: list[Annotated[dict[str, Any], BeforeValidator(_guide)]] = Field(default=[])
    """Further guides beside informing, each `{name: ..., ...}` with keys of its own; `concord methods` lists them."""
    select: Select = Select()
    scorer: Scorer = Scorer()
    metrics: list[str] = Field(default=[])
    """Further measures of the finished set, by name; `concord methods` lists them."""
    teacher: str | None = None
    """A classifier of the data's classes: it measures the set, and `rded` and coresets choose by it."""
    nuisance: str | None = None
    """A regressor of nuisances (pose, light, ...), whose diversity in the set is measured."""
    features: Literal["encoder", "teacher", "pixels"] | None = None
    """Of `k_center`, `herding`, `mix`, `pipeline.supply` and `select` from a pool: the space in which images are near
    each other. Null is the teacher's where one is named, else `pixels`, which need no model."""
    rded: Rded = Rded()
    device: Device = "auto"
    """Where networks run: auto, cpu, mps, cuda or cuda:N."""
    workers: Workers = "auto"
    """Processes that make images; `auto` is as many as cores, memory or GPUs are good for."""
    threads: PositiveInt = 1
    """Threads of each worker on the CPU."""
    unreadable: Unreadable = "error"
    """What a method on real images does with a file that cannot be read: stop, or leave it out and report it."""
    fingerprint: Literal["sample", "all"] = "sample"
    """By what a set that grows knows its photographs again: names, sizes and the bytes of a `sample`, or of `all`."""
    grey_range: GreyRange | None = None
    """Values of 16-bit grey images that become black and white: `[0, 4095]` where 12 bits are in use; null takes all
    that 16 bits can say, `[0, 65535]`."""
    max_pixels: PositiveInt | None = None
    """Pixels of the largest image that is opened, as small files may claim to be huge images; null is 178956970."""
    memory: Memory = Memory()

    @field_validator("metrics")
    @classmethod
    def _of_runs(cls, names: list[str]) -> list[str]:
        for name in names:
            if METRICS.get(name).of == "predictions":
                raise ValueError(f"{name} reads predictions: name it to concord evaluate, as in metrics={name}")
        return names

    @field_validator("classes", mode="before")
    @classmethod
    def _listed(cls, classes: Any) -> Any:
        return [classes] if isinstance(classes, str) else classes

    @property
    def spec(self) -> MethodSpec:
        """What is known of the recipe's method."""
        return METHODS.get(self.method)

    @property
    def of_method(self) -> Any:
        """The section of the method's own settings, where it has one."""
        return getattr(self, self.method.replace("-", "_"))

    @property
    def uses_concepts(self) -> bool:
        """Whether concepts make the images: they inform, or stand in prompts."""
        weights, pipeline = self.informing.objective, self.pipeline
        informs = self.informing.enabled and bool(weights.contrastive or weights.cosine)
        asked = pipeline.asks_concepts or pipeline.asks_negatives or self.select.rates
        return self.is_generated and (informs or asked)

    @property
    def compares(self) -> bool:
        """Whether images of a generated set are chosen by where they lie in a feature space."""
        return self.is_generated and (self.select.pooled or self.pipeline.supply != "random")

    @property
    def space(self) -> str:
        """The feature space in which images are compared."""
        return self.features or ("teacher" if self.teacher else "pixels")

    @property
    def informers(self) -> list[str]:
        """The models whose gradients inform; none where nothing does."""
        informing, weights = self.informing, self.informing.objective
        if not (self.is_generated and informing.enabled):
            return []
        embeds = weights.contrastive or weights.cosine or weights.class_name
        judged = [informing.classifier] if weights.classifier and informing.classifier else []
        return [*([self.encoder, *informing.encoders] if embeds else []), *judged]

    @property
    def judge(self) -> Scorer | None:
        """The scorer that rates candidates; None where there are none, or what informs rates them."""
        if not self.select.rates or self.select.by == "objective":
            return None
        named = self.select.by not in RATED_BY
        return Scorer(kind=self.select.by, model=self.select.model) if named else self.scorer

    @property
    def is_guided(self) -> bool:
        """Whether anything steers the sampling of `images`: concept informing, or further guides."""
        return self.is_generated and (self.informing.enabled or bool(self.guides))

    @property
    def is_generated(self) -> bool:
        """Whether a diffusion model makes the images; else nothing informs them."""
        return self.spec.kind == "generated"

    @property
    def is_real(self) -> bool:
        """Whether the images are real ones, or put together from such."""
        return self.spec.kind == "real"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as plain values: the class may be made for the method."""
        return _restored, (self.model_dump(by_alias=True),)

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys of `LATER` that say nothing: a recipe is written as it was before there were any."""
        values: dict[str, Any] = dump(self)
        for key in LATER:
            section, _, name = key.rpartition(".")
            part = values.get(section) if section else values
            if isinstance(part, dict) and attrgetter(key)(self) == default(type(self), key):
                part.pop(name, None)
        return values

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """Fill in what the method gives where the recipe does not say."""
        values = _first_encoder(values)
        spec = spec_of(values.get("method", "dit")) if isinstance(values, dict) else None
        if spec is None or not isinstance(values.get("pipeline", {}), dict):
            return values  # the fields say what is wrong
        given = {key: value for key, value in values.get("pipeline", {}).items() if value is not None or key != "model"}
        further = {key: value for key, value in spec.defaults(values).items() if values.get(key) is None}
        own: dict[str, Any] = {}
        if spec.settings is not None and isinstance(section := values.get(spec.name, {}), dict):
            own[spec.name] = {**spec.presets(values), **section}
        return {**values, **own, **further, "pipeline": {**spec.pipeline, **given}}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        particular = [key for key in Pipeline.model_fields if key not in (*_READ_BY_ALL, *self.spec.pipeline_keys)]
        for key in particular if self.is_generated else ():
            if getattr(self.pipeline, key) != Pipeline.model_fields[key].default:
                raise ValueError(f"pipeline.{key} is for method {' or '.join(_readers(key))}, not for {self.method}")
        if self.pipeline.strength and not self.pipeline.from_images and self.method != "text" and self.is_generated:
            raise ValueError("pipeline.image_strength: say what a sampling begins from, as in pipeline.start=real")
        self.spec.check(self)
        if self.teacher is None and self.features == "teacher":
            what = "features teacher needs a classifier of the data's classes"
            raise ValueError(f"teacher is missing: {what}, as in teacher=DIR")
        if self.guides and not self.is_generated:
            raise ValueError(f"guides: they move the samples of a diffusion model, and method {self.method} has none")
        return self


def _first_encoder(values: Any) -> Any:
    """Values in which a list of encoders is the first of them, and the others `informing.encoders`."""
    given = values.get("encoder") if isinstance(values, dict) else None
    if isinstance(given, str) and given.startswith("[") and given.endswith("]"):
        given = [name.strip() for name in given[1:-1].split(",")]
    informing = values.get("informing", {}) if isinstance(values, dict) else None
    if not isinstance(given, list) or not isinstance(informing, dict) or not given:
        return values
    return {**values, "encoder": given[0], "informing": {**informing, "encoders": given[1:]}}


def spec_of(method: Any) -> MethodSpec | None:
    """What is known of a method that a stored recipe names; None where it is not installed."""
    return METHODS.get(method) if isinstance(method, str) and method in METHODS else None


def _readers(key: str) -> list[str]:
    """The methods that read a key of `pipeline`, those that read few of them first."""
    specs = [spec for _, _, spec in METHODS.items() if isinstance(spec, MethodSpec) and key in spec.pipeline_keys]
    return [spec.name for spec in sorted(specs, key=lambda spec: len(spec.pipeline_keys))]


def recipe_class(method: Any) -> type[Recipe]:
    """The class of a method's recipes: `Recipe`, with a section of the method's name for settings of its own."""
    spec = spec_of(method)
    return Recipe if spec is None or spec.settings is None else _with_section(spec.name)


@cache
def _with_section(name: str) -> type[Recipe]:
    key = name.replace("-", "_")
    if key in Recipe.model_fields or hasattr(Recipe, key):
        raise ConcordError(
            f'method "{name}" comes from the package {METHODS.package(name)} with settings of its own, but recipes have'
            f" a {name} already; rename it, or uninstall it"
        )
    spec = METHODS.get(name)
    settings: Any = spec.settings
    section: type[BaseModel] = create_model(name, __base__=(settings, Part), __doc__=settings.__doc__ or spec.about)
    added: Any = {key: (section, Field(alias=name))}
    return create_model("Recipe", __base__=Recipe, **added)


def _restored(values: dict[str, Any]) -> Recipe:
    return recipe_class(values["method"]).model_validate(values)


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
    """Return the models that the recipe's method and guides will load: dotted key -> directory or hub id."""
    needed = dict(recipe.spec.models(recipe))
    for entry in recipe.guides:
        name, settings = guide_settings(entry)
        needed |= {f"guides.{name}.{key}": model for key, model in GUIDES.get(name).models(settings).items()}
    return needed
