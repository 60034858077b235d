"""The built-in methods, as recipes, data cards and `concord methods` know them; light, so that a recipe loads fast."""

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from os.path import expanduser, join

from concord.methods.settings import DM_PRESETS, IDM_PRESETS, MTT_PRESETS, Dm, Idm, Mix, Mtt, Sre2l, published
from concord.recipe import Recipe
from concord.registry import SCORERS, MethodSpec


def diffusion_models(recipe: Recipe) -> dict[str, str]:
    informing, weights = recipe.informing, recipe.informing.objective
    tiny = recipe.pipeline.tiny_decoder if informing.enabled and informing.decoder == "tiny" else None
    embeds = recipe.uses_concepts or (informing.enabled and weights.class_name)
    embeds = embeds or recipe.pipeline.from_images  # near copies are looked for
    embeds = embeds or (recipe.compares and recipe.space == "encoder")
    adapter = recipe.pipeline.ip_adapter
    named = {
        "pipeline.tiny_decoder": tiny,
        "pipeline.ip_adapter": adapter.model if adapter else None,
        "pipeline.ip_adapter.image_encoder": adapter.image_encoder if adapter else None,
        "encoder": recipe.encoder if embeds else None,
        "informing.classifier": informing.classifier if informing.enabled and weights.classifier else None,
        "scorer.model": None,
        "scorer.encoder": recipe.scorer.encoder,
        "teacher": recipe.teacher,
        "nuisance": recipe.nuisance,
        **SCORERS.get(recipe.scorer.kind).models(recipe),
    }
    further = informing.encoders if embeds else []
    if (judge := recipe.judge) is not None and judge is not recipe.scorer:
        judging = recipe.model_copy(update={"scorer": judge})
        rates = SCORERS.get(judge.kind).models(judging).items()
        named |= {key.replace("scorer.", "select."): model for key, model in rates}
    return (
        {"pipeline.model": recipe.pipeline.model or ""}
        | {key: model for key, model in named.items() if model}
        | {f"informing.encoders {n}": model for n, model in enumerate(further, 1)}
        | {f"pipeline.checkpoints {n}": path for n, path in enumerate(recipe.pipeline.checkpoints, 1)}
    )


def _features_model(recipe: Recipe) -> dict[str, str]:
    """The model in whose space a coreset's images are near each other."""
    named = {"encoder": recipe.encoder, "teacher": recipe.teacher}
    return {key: model for key, model in named.items() if key == recipe.features and model}


def _needs(key: str, how: str) -> Callable[[Recipe], None]:
    def check(recipe: Recipe) -> None:
        if attrgetter(key)(recipe) in (None, {}):
            raise ValueError(f"{key} is missing: {how}")

    return check


def _experts(recipe: Recipe) -> dict[str, str]:
    """The directory of experts, as a path: "a/b" would be an id of the hub."""
    experts = recipe.of_method.experts
    return {"mtt.experts": join(".", expanduser(experts))} if experts else {}


_MODELS = ("informing", "concepts", "pipeline", "select", "uninformed", "batch_size", "scorer", "nuisance")
_COPIES = frozenset({*_MODELS, "encoder", "features"})
"""What a choice among real images does not read."""


DIT = MethodSpec(
    "dit",
    "concord.methods.diffusion:Generate",
    "generated",
    "sampled from a class-conditional diffusion model",
    pipeline={"model": "facebook/DiT-XL-2-256"},
    pipeline_keys=frozenset({"channels"}),
    families=("dit",),
    models=diffusion_models,
    unread=frozenset({"rded"}),
)
MINIMAX = replace(
    DIT,
    name="minimax",
    about="sampled from class-conditional diffusion models, one a part of the classes",
    pipeline_keys=frozenset({"checkpoints", "channels"}),
    check=_needs(
        "pipeline.checkpoints",
        "map each directory that `concord convert` wrote to its classes, as in"
        " pipeline.checkpoints={models/minimax: all}",
    ),
)
UNCLIP = replace(
    DIT,
    name="unclip",
    about="sampled from a diffusion model, each on one real image of its class and a prompt",
    pipeline={"model": "radames/stable-diffusion-2-1-unclip-img2img"},
    pipeline_keys=frozenset({"size", "noise_level", "prompts", "negative_prompts"}),
    families=("unclip",),
)
TEXT = replace(
    DIT,
    name="text",
    about="sampled from a text-to-image diffusion model",
    pipeline={"scheduler": "stock"},
    pipeline_keys=frozenset({"size", "prompts", "negative_prompts", "ip_adapter"}),
    families=("text", "any"),
    check=_needs(
        "pipeline.model",
        "name a text-to-image pipeline (a directory or hub id), as in"
        " pipeline.model=stable-diffusion-v1-5/stable-diffusion-v1-5",
    ),
)
GENERATE = replace(DIT, name="generate", families=())
RANDOM = MethodSpec(
    "random",
    "concord.methods.real:random_choice",
    "real",
    "chosen at random from the real images of each class",
    unread=_COPIES | {"rded"},
)
FULL = replace(
    RANDOM,
    name="full",
    build="concord.methods.real:full_set",
    about="all the real images of each class",
    ipc="all",
    drawn=False,
)
K_CENTER = MethodSpec(
    "k_center",
    "concord.methods.coreset:k_center_set",
    "real",
    "real images chosen so that every real image of the class has a near one among them (k-center greedy)",
    models=_features_model,
    defaults=lambda values: {"features": "teacher" if values.get("teacher") else "pixels"},
    unread=frozenset({*_MODELS, "rded"}),
    drawn=False,
)
HERDING = replace(
    K_CENTER,
    name="herding",
    build="concord.methods.coreset:herding_set",
    about="real images chosen so that their mean feature is that of the class (herding)",
)
MIX = replace(
    K_CENTER,
    name="mix",
    build="concord.methods.mix:Mixed",
    about="images of a set that was distilled, and real images that were chosen beside them",
    settings=Mix,
    check=_needs("mix.made", "name the directory of a finished set, as in mix.made=out/reef"),
    drawn=True,
)
RDED = MethodSpec(
    "rded",
    "concord.methods.rded:Rded",
    "real",
    "put together from crops of real images that a classifier is surest of (RDED)",
    models=lambda recipe: {"teacher": recipe.teacher},
    check=_needs("teacher", "method rded needs a classifier of the data's classes, as in teacher=DIR"),
    unread=_COPIES,
)
SRE2L = MethodSpec(
    "sre2l",
    "concord.methods.sre2l:Recovered",
    "optimised",
    "recovered from noise by a classifier's cross-entropy and the statistics that its batch norm keeps (SRe2L)",
    settings=Sre2l,
    models=lambda recipe: (
        {"teacher": recipe.teacher} | {f"sre2l.teachers {n}": one for n, one in enumerate(recipe.of_method.teachers, 1)}
    ),
    defaults=lambda _: {"batch_size": 100},
    check=_needs("teacher", "method sre2l recovers images from a classifier of the data's classes, as in teacher=FILE"),
    unread=(_COPIES - {"batch_size"}) | {"rded", "dtype"},
)
DM = MethodSpec(
    "dm",
    "concord.methods.dm:DistributionMatching",
    "optimised",
    "pixels whose mean features in random networks are brought to those of the real images of their class (DM)",
    settings=Dm,
    presets=published(DM_PRESETS, "dm"),
    unread=_COPIES | {"rded"},
    ipc="joint",
)
IDM = replace(
    DM,
    name="idm",
    build="concord.methods.idm:ImprovedMatching",
    about="four small images in each, whose mean features in a queue of trained networks are brought to those of the"
    " real images of their class (IDM)",
    settings=Idm,
    presets=published(IDM_PRESETS, "idm"),
)
MTT = replace(
    DM,
    name="mtt",
    build="concord.methods.mtt:TrajectoryMatching",
    about="pixels on which a network takes the way that others took on the real images (MTT)",
    settings=Mtt,
    presets=published(MTT_PRESETS, "mtt"),
    models=_experts,
    check=_needs("mtt.experts", "train some with `concord experts DATA --out DIR`, as in mtt.experts=DIR"),
    unread=DM.unread | {"dtype"},
)
