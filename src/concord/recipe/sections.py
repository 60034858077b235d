"""The parts of a recipe. The text under a key is its description, for docs/recipe.md, editors and `recipes --keys`."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from concord.choices import Between, Mode, NegativeKind, SchedulerName, SelectKind, Supply, VaeMode
from concord.registry import SCORERS
from concord.settings import known
from concord.text import nearest

Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Workers = Literal["auto"] | PositiveInt
STEPS = {"dpm++": 20, "unipc": 20, "deis": 20, "heun": 20, "euler": 30, "lcm": 4, "tcd": 4}
"""What `pipeline.steps: auto` is by scheduler, as their authors advise; 50 for all others."""


def _scheduler(name: Any) -> Any:
    """Take a word, or what may be a class of diffusers: that is imported later."""
    words = get_args(SchedulerName)
    if isinstance(name, str) and (name in words or (name.isidentifier() and name.endswith("Scheduler"))):
        return name
    listed = ", ".join(f"'{word}'" for word in words)
    raise PydanticKnownError("literal_error", {"expected": f"{listed} or 'a class of diffusers'"})


Scheduler = Annotated[
    str,
    BeforeValidator(_scheduler),
    WithJsonSchema({"anyOf": [{"enum": list(get_args(SchedulerName))}, {"pattern": "^[A-Z]\\w*Scheduler$"}]}),
]
_STEPS = {"exclusiveMinimum": 0, "type": "integer"}
Options = Annotated[dict[str, Any], WithJsonSchema({"type": "object"})]
CONCEPT_SLOTS = ("{concept}", "{concepts}")
"""What prompts may hold beside the class."""
IMAGE_STRENGTH = 0.5
"""How much of a start is noise where the recipe does not say."""


def skipped_steps(steps: int, strength: float) -> int:
    """How many steps are left out where noise replaces so much of an image: as diffusers rounds, but one is taken."""
    return steps - max(1, int(steps * strength))


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class Format(Part):
    """How an image is written."""

    kind: Literal["png", "webp", "jpeg"] = "png"
    """The file format; `png` and lossless `webp` keep every pixel."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Quality of `jpeg`; the others do not read it."""


class Guidance(Part):
    """Classifier-free guidance; a number instead is its scale."""

    scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """As `pipeline.guidance_scale`, which it becomes."""
    window: tuple[Fraction, Fraction] = (0.0, 1.0)
    """The part of the schedule that is guided, as fractions; at other steps no unconditional prediction is computed."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window: expected start below end, got {list(self.window)}")
        return self


def spelled_guidance(pipeline: Any) -> Any:
    """Values of `pipeline` in which a scale that `guidance` gives, alone or beside a window, is `guidance_scale`."""
    given = pipeline.get("guidance") if isinstance(pipeline, dict) else None
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = {"scale": given}
    if not isinstance(given, dict) or given.get("scale") is None:
        return pipeline
    rest = {key: value for key, value in given.items() if key != "scale"}
    return {**pipeline, "guidance": rest, "guidance_scale": given["scale"]}


class IpAdapter(Part):
    """Real images as prompts of a text-to-image model."""

    model: str = "h94/IP-Adapter"
    """Directory or hub id of the adapter, with its image encoder in `image_encoder` beside the weights."""
    weight_name: str = "models/ip-adapter_sd15.safetensors"
    """The adapter's file there, of the kind of model that it is for."""
    scale: Fraction = 0.6
    """How much the image says beside the prompt, 0 to 1."""
    image_encoder: str | None = None
    """Directory or hub id of what reads the images, where the adapter comes without it: a CLIP vision model for FLUX,
    a SigLIP vision model for SD 3; null: the one beside the weights."""

    @field_validator("weight_name")
    @classmethod
    def _inside(cls, name: str) -> str:
        if not name.endswith(".safetensors") or name.startswith("/") or ".." in name.split("/"):
            raise ValueError(
                f'expected a .safetensors file inside the model, as in models/NAME.safetensors, not "{name}"'
            )
        return name


class Pipeline(Part):
    """The diffusion model, and how it is sampled. Methods on real images do not read it."""

    model: str | None = None
    """Directory or hub id for diffusers' `from_pretrained`; null takes the method's own, where it has one. A list is
    short for its first with the others as `mirrors`."""
    mirrors: list[str] = []
    """Further ids of the same model: the first that is on this machine is taken, else the first that the hub has, and
    the recipe that a run leaves names that one alone."""
    ip_adapter: IpAdapter | None = None
    """Of `text`: condition each sample on a real image of its class, too, by IP-Adapter (SD 1.5, SDXL, SD 3, FLUX),
    as in `{model: h94/IP-Adapter, weight_name: models/ip-adapter_sd15.safetensors, scale: 0.6}`; null does not."""
    checkpoints: dict[str, str | list[str]] = {}
    """Of `minimax`: a directory that `concord convert` wrote, to its classes: folders, names or WordNet ids, a class
    list's name, a range of ImageNet ids as in `0-19`, or `all`."""
    tiny_decoder: str | None = None
    """A tiny autoencoder (TAESD) that decodes for the gradient where `informing.decoder` is `tiny`."""
    steps: Annotated[PositiveInt, WithJsonSchema({"anyOf": [{"const": "auto"}, _STEPS]})] = 50
    """Denoising steps; `auto` is what is usual with the scheduler: 50, 30 with `euler`, 20 with `dpm++`, `unipc`,
    `deis` and `heun` (which takes two evaluations a step), 4 with `lcm` and `tcd`."""
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Scale of classifier-free guidance; null takes the pipeline's own default."""
    guidance: Guidance = Guidance()
    scheduler: Scheduler = "ddim"
    """The solver: `ddim` as in the paper, `ddpm`, `minimax` (DDPM with learned variance and guidance on 3 channels, as
    that repository samples), `stock` (the pipeline's own), `dpm++`, `unipc`, `deis`, `euler`, `heun`, `lcm` or `tcd`
    (for a flow, the flow's form), or a scheduler of diffusers by its class's name."""
    scheduler_options: Options = {}
    """Arguments of the scheduler's class, over the pipeline's own: `{timestep_spacing: trailing}`."""
    channels: PositiveInt | None = None
    """Guidance acts on the first so many latent channels; null is all of them, and 3 for the scheduler `minimax`."""
    size: PositiveInt | None = None
    """Side in pixels of the image as it is made, before it is stored; null takes the model's own."""
    noise_level: Annotated[int, Field(ge=0, lt=1000)] = 0
    """Of `unclip`: noise on the embedding of the condition image, 0 to 999."""
    prompts: Annotated[list[str], Field(min_length=1)] | None = None
    """Templates with the slot `{class}`, and where concepts are to be asked for `{concept}` (one of the class's kept
    ones, drawn for the sample) or `{concepts}` (all of them); null takes concord's own 28."""
    negative_prompts: Annotated[list[str], Field(min_length=1)] | None = None
    """Templates that guidance leads away from; `{concept}` is one of the sample's negatives, concepts of look-alikes,
    and `{concepts}` all of them. Null is the pipeline's own, which is empty."""
    start: Annotated[str, Field(min_length=1)] | None = None
    """What a sampling begins from: `noise`, `real` images of the class, a `prototype` (the middle of a cluster of their
    latents), or the images of the set in this directory, each under the noise that `image_strength` says. Null is
    noise; of `text` with `image_strength`, the pipeline's own image-to-image call on real images."""
    image_strength: Annotated[float, Field(gt=0, le=1)] | None = None
    """How much of the start is replaced by noise, up to 1, and so the share of the steps that is taken; null is 0.5
    where `start` names images."""
    prototypes: PositiveInt = 10
    """Of start `prototype`: clusters of a class's latents (k-means); samples take them by turns, the largest first. Of
    supply `kmeans`: clusters of its real images."""
    supply: Supply = "random"
    """In what order real images condition samples, or are begun from: at `random`; `herding`; `medoid`, those that
    stand for most others first; `kmeans`, by turns from clusters of them, the nearest to a middle first. All but
    `random` go by `features`."""

    @property
    def asks_concepts(self) -> bool:
        """Whether prompts hold concepts of the class."""
        return any(slot in prompt for prompt in self.prompts or () for slot in CONCEPT_SLOTS)

    @property
    def asks_negatives(self) -> bool:
        """Whether negative prompts hold concepts of look-alikes."""
        return any(slot in prompt for prompt in self.negative_prompts or () for slot in CONCEPT_SLOTS)

    @property
    def from_images(self) -> bool:
        """Whether `start` names something else than noise."""
        return self.start not in (None, "noise")

    @property
    def strength(self) -> float | None:
        """How much of a start is noise; None where a sampling begins from noise alone."""
        if self.start is None:
            return self.image_strength
        return (self.image_strength or IMAGE_STRENGTH) if self.from_images else None

    def skipped(self, steps: int) -> int:
        """How many of `steps` are not taken, because a sampling begins from an image."""
        return 0 if self.strength is None else skipped_steps(steps, self.strength)

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, values: Any) -> Any:
        """Spell out `auto`, what `guidance` says of the scale, and a list of models."""
        values = spelled_guidance(values)
        ids = values.get("model") if isinstance(values, dict) else None
        if isinstance(ids, str) and ids.startswith("[") and ids.endswith("]"):  # as the command line gives it
            ids = [one.strip() for one in ids[1:-1].split(",") if one.strip()]
        if isinstance(ids, list) and ids:
            values = {**values, "model": ids[0], "mirrors": [*ids[1:], *(values.get("mirrors") or [])]}
        if not isinstance(values, dict) or values.get("steps") != "auto":
            return values
        return {**values, "steps": STEPS.get(str(values.get("scheduler")), 50)}

    @model_validator(mode="after")
    def _some_steps(self) -> Self:
        if self.strength is not None and int(self.steps * self.strength) < 1:
            raise ValueError(
                f"image_strength: {self.strength} of {self.steps} steps is less than one step, so that nothing"
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


class ObjectiveWeights(Part):
    """Weights of the summed objectives (the paper's Table 7)."""

    contrastive: Weight = 1.0
    """Of the contrast of positive and negative concepts, the paper's objective; 0 leaves it out."""
    cosine: Weight = 0.0
    """Of the cosine similarity to the positive concepts; 0 leaves it out."""
    class_name: Weight = 0.0
    """Of the cosine similarity to the class's bare name; 0 leaves it out."""
    classifier: Weight = 0.0
    """Of a classifier's cross-entropy; 0 leaves it out. It needs `informing.classifier`."""


class Informing(Part):
    """Concept informing."""

    enabled: bool = True
    """Whether the images are informed by concepts."""
    mode: Mode = "fast"
    """How the gradient moves a step: `exact` (Eq. 9) through the denoiser, `mean` (Eq. 6), or `fast` without it."""
    weight: Weight = 1.0
    """The paper's lambda, of modes `exact` and `mean`."""
    strength: Weight = 0.1
    """Size of the shift in mode `fast`, relative to the predicted noise."""
    push: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Of mode `fast`: the size of all shifts of a sampling together, which steps, window and solver share out, instead
    of `strength` at each step; null takes that."""
    objective: ObjectiveWeights = ObjectiveWeights()
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Temperature of the contrastive objective; null takes the one that the encoder learned."""
    window: tuple[Fraction, Fraction] = (0.0, 1.0)
    """The part of the schedule that is informed, as fractions from its start."""
    every: PositiveInt = 1
    """A gradient at every k-th step of the window."""
    inner: PositiveInt = 1
    """Gradients within such a step, each of the estimate that those before it have moved; they share its shift."""
    views: PositiveInt = 1
    """Each gradient is the mean over so many views of the decoded image, cropped, shifted and under noise at random; 1
    is the image itself."""
    encoders: list[str] = []
    """Encoders that inform beside the recipe's `encoder`: their losses are averaged, with each one's own texts."""
    between: Between = "none"
    """What the steps without a gradient do: nothing, `hold` its direction, or `extrapolate` the last two."""
    decoder: Literal["full", "tiny"] = "full"
    """What decodes for the gradient: the pipeline's own decoder, or `pipeline.tiny_decoder`."""
    decode_size: Literal["auto"] | PositiveInt | None = None
    """Shorter side in pixels that is decoded for the gradient; `auto`: what the encoder sees; null: the whole image."""
    stop: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Leave an image alone once its loss is among the lowest such share of its class's real images, as in 0.5: below
    their median; null never does."""
    classifier: str | None = None
    """The model of the classifier objective: a directory, file or hub id."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window: expected start below end, got {list(self.window)}")
        if self.enabled and not any(self.objective.model_dump().values()):
            raise ValueError("objective: every weight is 0; raise one, or say informing.enabled=false")
        if self.enabled and self.objective.classifier and not self.classifier:
            raise ValueError("classifier: objective.classifier needs a model here")
        if self.stop is not None and self.encoders:
            raise ValueError("stop: it rates by one encoder's real images, and encoders names others; set it to null")
        if self.stop is not None and self.objective.classifier:
            raise ValueError("stop: it compares embeddings with those of real images; set objective.classifier to 0")
        return self


class Negatives(Part):
    """How negative concepts are drawn."""

    kind: NegativeKind = "weighted"
    """From all other classes, `weighted` by the similarity of their names or at `random`, or from the `k` most
    `similar`. `similar-8` is short for `similar` with k 8, as the paper's Table 5 writes it."""
    k: PositiveInt = 5
    """Classes that kind `similar` draws from."""
    count: Annotated[int, Field(ge=0)] = 10
    """Negative concepts of an image."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, values: Any) -> Any:
        kind = values.get("kind") if isinstance(values, dict) else None
        if not isinstance(kind, str) or not kind.startswith("similar-"):
            return values
        k = kind.removeprefix("similar-")
        return {**values, "kind": "similar"} | ({"k": int(k)} if k.isdigit() else {})


class Concepts(Part):
    """Which concepts inform."""

    bank: str | None = None
    """A bank's name or file; null needs none, where nothing is informed or class names alone inform."""
    keep: PositiveInt = 5
    """Concepts that a class keeps, those of highest validity (Eq. 10)."""
    images: PositiveInt | None = 100
    """Real images of a class that the selection looks at; null is all of them."""
    positives: PositiveInt | None = None
    """Kept concepts that an image is informed by, so that over the set each has its share: those come first that have
    had least of it. Null: all that are kept."""
    pinned: dict[str, list[str]] = {}
    """A class to phrases that are kept, whatever their validity."""
    negatives: Negatives = Negatives()

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.positives is not None and self.positives >= self.keep and not self.pinned:
            raise ValueError(f"positives: {self.positives} of {self.keep} that are kept is all of them; raise keep")
        return self


class Scorer(Part):
    """What rates images against a class's concepts."""

    kind: Annotated[str, known(SCORERS)] = "none"
    """An attribute `detector`, `percentile` of similarity among real images, `vqa` (a model on a server that sees),
    `none`, or a package's scorer."""
    model: str | None = None
    """The detector, another encoder for `percentile` (null takes the recipe's), or the model's name for `vqa`."""
    encoder: str | None = None
    """Whose similarities the percentiles of details.json are of; null takes what scores percentiles, else the recipe's
    encoder, though a pupil should not mark his own work."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "detector" and not self.model:
            raise ValueError("model: the detector needs a model here")
        if self.kind == "percentile" and self.encoder:
            raise ValueError("encoder: with kind percentile it is scorer.model that names the encoder")
        return self


RATED_BY = ("completeness", "objective")
"""What candidates may be rated by, beside a scorer."""


def _rating(word: Any) -> Any:
    if isinstance(word, str) and word not in RATED_BY and (word not in SCORERS or word == "none"):
        there = [*RATED_BY, *(name for name in SCORERS if name != "none")]
        raise ValueError(f'nothing rates by "{word}"{nearest(word, there)}; there are {", ".join(there)}')
    return word


class Select(Part):
    """Which of several candidates become the images of the set."""

    kind: SelectKind = "none"
    """`none`: each image is as it is sampled. `best`: the best rated of the `of` candidates of its place, of which all
    but the first, which is that of `none`, have other noise. From a pool of `of` x IPC images, made first, one after
    another: `coverage` brings the real images nearest to those taken, `herding` the mean to the real ones' mean,
    `kcenter` serves the real image that is farthest; `groups` takes whole groups, most like their class and least like
    others."""
    of: Annotated[int, Field(ge=2, le=1000)] = 4
    """Candidates for each image; of `groups`, groups of which one is taken."""
    by: Annotated[str, BeforeValidator(_rating), WithJsonSchema({"type": "string"})] = "completeness"
    """Of `best`, what rates: `completeness`, how surely the recipe's scorer finds the image's concepts; another scorer
    by its name, as `percentile`; or `objective`, what informs. A scorer must be another model than what informs."""
    model: str | None = None
    """The model of the scorer that `by` names, as `scorer.model` is the recipe's."""
    finish: PositiveInt | None = None
    """Of `best`: after half of the steps so many candidates go on, the best by their clean estimates; null: all do."""
    difficulty: bool = False
    """Of `coverage`, `herding` and `kcenter`: have the images as hard for the teacher as real ones are, from easy to
    hard; it needs `teacher`."""
    group: PositiveInt = 10
    """Of `groups`: images of a group; an IPC that is no multiple takes a part of the last."""

    @property
    def rates(self) -> bool:
        """Whether candidates are rated by the concepts that they are to show."""
        return self.kind == "best"

    @property
    def pooled(self) -> bool:
        """Whether images are chosen from a pool that is made first."""
        return self.kind not in ("none", "best")

    def pool(self, ipc: int) -> int:
        """Images of a class that the pool of so many has."""
        return self.of * (-(-ipc // self.group) * self.group if self.kind == "groups" else ipc)

    @model_validator(mode="after")
    def _acting(self) -> Self:
        if self.finish is not None and self.finish >= self.of:
            raise ValueError(f"finish: {self.finish} of {self.of} candidates is all of them; leave it out")
        if self.by == "detector" and not self.model:
            raise ValueError("model: the detector needs a model here")
        return self


class Rded(Part):
    """How RDED puts an image together."""

    factor: Annotated[int, Field(ge=1, le=8)] = 2
    """An image is a square of factor x factor crops. Its authors have 2, and 1 at 32 pixels."""
    crops: PositiveInt = 5
    """Crops of each real image, of which the one that the teacher is surest of is kept."""
    images: PositiveInt = 300
    """Real images of a class that are looked at."""


class Memory(Part):
    """What trades time and memory, and leaves images as they are but for rounding."""

    vae: VaeMode = "plain"
    """Decode all images at once, one by one (`sliced`), or in tiles (`tiled`, which blends their seams)."""
    checkpointing: bool = False
    """Recompute activations in the backward pass of exact informing."""
    batch: PositiveInt | None = None
    """Images at once on the device, null for the whole `batch_size`; it halves by itself where memory runs out."""
    compile: bool = False
    """Compile denoiser, decoders and encoder by torch.compile, which takes minutes at first."""
    channels_last: bool = False
    """The memory layout in which convolutions of half precision are fastest on GPUs."""
