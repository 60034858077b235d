"""Settings that cannot act: what somebody set and nothing will read is refused, not passed over in silence.

A recipe has layers: what its file extends, the file, and over it what the command line sets. What a later layer made
idle is no mistake: the file of `reef` sets `informing.strength`, and who sets `informing.mode=exact` over it did not.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pydantic import BaseModel

from concord.recipe.model import LATER, Recipe, default
from concord.recipe.sections import CONCEPT_SLOTS, RATED_BY
from concord.settings import keys

UNSAID, FILE, TYPED = -1000, 0, 1
"""The layers; those between the first two are what a file extends, the last of it at -1."""
_OF_KINDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("by", "model", "finish"), ("best",)),
    "difficulty": ("coverage", "herding", "kcenter"),
    "group": ("groups",),
}
"""Keys of `select` that only some kinds read."""
_MEASURES = {"encoder", "scorer", "nuisance"}
"""What `metrics` may read, whatever the method does."""


@dataclass(frozen=True)
class Idle:
    """A key, or a section, that cannot act in a recipe.

    why: goes on after the key. by: the keys that make it so. beside: the last layer that may set it together with
    these: what a switch turns off may stay where it is.
    """

    key: str
    why: str
    by: tuple[str, ...]
    beside: int = UNSAID


def idle(recipe: Recipe) -> Iterator[Idle]:
    """Yield what cannot act, whether somebody set it or not."""
    informing, spec = recipe.informing, recipe.spec
    for key in sorted(spec.unread - (_MEASURES if recipe.metrics else set())):
        yield Idle(
            key, f"method {spec.name} does not read it", ("method",), UNSAID if key in ("features", "rded") else TYPED
        )
    if spec.ipc == "all":
        yield Idle("ipc", f"method {spec.name} takes all real images of each class", ("method",))
    if "features" in spec.defaults({}) and recipe.features != "encoder" and not recipe.metrics:
        is_space = f"features is {recipe.features}, which takes another model; set features=encoder"
        yield Idle("encoder", is_space, ("method", "features", "metrics"))
    if recipe.format.kind != "jpeg":
        yield Idle("format.quality", f"it is of jpeg, and format.kind is {recipe.format.kind}", ("format.kind",))
    if recipe.scorer.kind == "none":
        yield Idle("scorer.model", "scorer.kind is none", ("scorer.kind",))
    if not recipe.is_generated:
        return
    if (scale := recipe.pipeline.guidance_scale) is not None and scale <= 1:
        for key in ("channels", "guidance.window", "negative_prompts"):
            by = ("pipeline.guidance_scale", "pipeline.guidance.scale")
            yield Idle(f"pipeline.{key}", f"nothing is guided at {scale:g}", by)
    if recipe.pipeline.start == "noise":
        yield Idle("pipeline.image_strength", "pipeline.start is noise, which stays as it is", ("pipeline.start",))
    if recipe.pipeline.start != "prototype" and recipe.pipeline.supply != "kmeans":
        yield Idle("pipeline.prototypes", "it is of pipeline.start prototype", ("pipeline.start",))
    if not recipe.compares:
        why = "nothing compares images: it is for pipeline.supply, and select from a pool"
        yield Idle("features", why, ("pipeline.supply", "select.kind"))
    if not informing.enabled:
        switched = ("informing", "pipeline.tiny_decoder", "memory.checkpointing", "scorer.encoder")
        for key in (*switched, *_unasked(recipe)):
            yield Idle(key, "informing.enabled is false", ("informing.enabled",), beside=TYPED)
    else:
        yield from _in_informing(recipe)
    yield from _in_select(recipe)
    if not recipe.is_guided:
        yield Idle("uninformed", "the set is uninformed as it is", ("informing.enabled", "guides"), beside=TYPED)


def _in_select(recipe: Recipe) -> Iterator[Idle]:
    select = recipe.select
    if select.kind == "none":
        for key in ("of", "by", "model", "finish", "difficulty", "group"):
            yield Idle(f"select.{key}", "select.kind is none", ("select.kind",))
        return
    for key, kinds in _OF_KINDS.items():
        if select.kind not in kinds:
            only = f"it is of kind {' and '.join(kinds)}, and the kind is {select.kind}"
            yield Idle(f"select.{key}", only, ("select.kind",))
    chosen = "images that are chosen have no counterpart at the same seeds; make an uninformed set of its own"
    yield Idle("uninformed", chosen, ("select.kind",))
    if select.kind == "best" and select.by in RATED_BY:
        yield Idle("select.model", f"select.by is {select.by}; name a scorer there", ("select.by",))


def _unasked(recipe: Recipe) -> list[str]:
    """What of `concepts` neither prompts nor a judge ask for."""
    if recipe.pipeline.asks_negatives:
        return []
    return ["concepts.negatives"] if recipe.uses_concepts else ["concepts"]


def _in_informing(recipe: Recipe) -> Iterator[Idle]:
    informing, weights, negatives = recipe.informing, recipe.informing.objective, recipe.concepts.negatives
    mode = f"informing.mode is {informing.mode}, whose size is informing."
    if informing.mode == "fast":
        yield Idle("informing.weight", f"it is of modes exact and mean, and {mode}strength", ("informing.mode",))
        yield Idle("memory.checkpointing", "it is of mode exact, and informing.mode is fast", ("informing.mode",))
    else:
        for key in ("strength", "push"):
            yield Idle(f"informing.{key}", f"it is of mode fast, and {mode}weight", ("informing.mode",))
    if informing.push is not None:
        why = "informing.push says how much all steps move an image together; set one of the two"
        yield Idle("informing.strength", why, ("informing.push",))
    if informing.every == 1:
        all_steps = "at informing.every=1 no step of the window is between two gradients"
        yield Idle("informing.between", all_steps, ("informing.every",))
    if informing.decoder != "tiny":
        by = ("informing.decoder",)
        yield Idle("pipeline.tiny_decoder", "informing.decoder is full; set it to tiny", by)
    if not weights.classifier:
        by = ("informing.objective.classifier",)
        yield Idle("informing.classifier", "informing.objective.classifier is 0; raise it", by)
    given = {name: weight for name, weight in weights if weight}
    if informing.mode == "fast" and len(given) == 1 and (name := next(iter(given))) and given[name] != 1:
        others = tuple(f"informing.objective.{other}" for other, _ in weights if other != name)
        why = "mode fast normalises the gradient, so that the weight of the only objective says nothing; set it to 1"
        yield Idle(f"informing.objective.{name}", f"{why}, and informing.strength", ("informing.mode", *others))
    contrastive, by_concepts = ("informing.objective.contrastive",), bool(weights.contrastive or weights.cosine)
    asked = recipe.pipeline.asks_concepts or recipe.pipeline.asks_negatives or recipe.judge is not None
    if not by_concepts and not asked:
        for key in ("bank", "keep", "pinned", *(() if informing.stop else ("images",))):
            why = "informing.objective has no weight on concepts (contrastive, cosine)"
            yield Idle(f"concepts.{key}", why, (*contrastive, "informing.objective.cosine"), beside=FILE)
    if not weights.contrastive:
        negative = () if recipe.pipeline.asks_negatives else ("concepts.negatives",)
        for key in (*negative, "informing.temperature"):
            yield Idle(key, "informing.objective.contrastive is 0", contrastive, beside=FILE)
    elif not negatives.count:
        for key in ("concepts.negatives.kind", "concepts.negatives.k", "informing.temperature"):
            yield Idle(key, "without negatives Eq. 11 is descended, not Eq. 12", ("concepts.negatives.count",))
    elif negatives.kind != "similar":
        only = f"it is of kind similar, and the kind is {negatives.kind}"
        yield Idle("concepts.negatives.k", only, ("concepts.negatives.kind",))
    if not by_concepts and not weights.class_name:
        yield Idle("informing.encoders", "informing.objective has no weight on embeddings", contrastive, beside=FILE)
    if recipe.concepts.bank is None and by_concepts:
        yield Idle("concepts.keep", "without concepts.bank the pinned phrases are all there are", ("concepts.bank",))


def impossible(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield the keys at which a run could only fail, once its models are loaded, and why."""
    if not recipe.is_generated:
        return
    if recipe.pipeline.asks_negatives and not recipe.concepts.negatives.count:
        why = "they ask for concepts of look-alikes, and concepts.negatives.count is 0; raise it"
        yield "pipeline.negative_prompts", why
    if recipe.select.difficulty and recipe.select.pooled and recipe.teacher is None:
        yield "select.difficulty", "how hard an image is, a teacher tells; name one, as in teacher=DIR"
    if recipe.select.rates and (unfit := _no_judge(recipe)):
        yield "select.by", unfit
    if not recipe.informing.enabled:
        return
    scheduler = recipe.pipeline.scheduler
    if recipe.informing.mode == "mean" and not scheduler.startswith(("ddpm", "minimax", "stock", "DDPM")):
        is_ddpm = (
            f"mean (Eq. 6) is for DDPM, and pipeline.scheduler is {scheduler}; set it to ddpm, or the mode to exact"
        )
        yield "informing.mode", is_ddpm
    if recipe.informing.decoder == "tiny" and recipe.pipeline.tiny_decoder is None:
        yield "informing.decoder", "tiny needs pipeline.tiny_decoder (a directory or hub id)"


def _no_judge(recipe: Recipe) -> str | None:
    """Why what `select.by` names cannot rate candidates; None where it can."""
    judge = recipe.judge
    if judge is None:
        return None if recipe.informing.enabled else "nothing informs, so that there is no objective; name a scorer"
    if judge.kind == "none":
        return "completeness is the recipe's scorer's, and scorer.kind is none; name a scorer here"
    by = judge.model or (recipe.encoder if judge.kind == "percentile" else None)
    if by not in recipe.informers:
        return None
    other = "name another, as in select.by=percentile select.model=ID"
    return f"{by} informs, and a pupil does not mark his own work; {other}"


def wrong_texts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield the keys whose texts say nothing, or ask for what nothing fills in, and what is wrong."""
    for key, known in (("prompts", ("{class}", *CONCEPT_SLOTS)), ("negative_prompts", CONCEPT_SLOTS)):
        for prompt in getattr(recipe.pipeline, key) or ():
            if unknown := [slot for slot in re.findall(r"\{[^{}]*\}", prompt) if slot not in known]:
                slots = f"the slots are {', '.join(known)}"
                yield f"pipeline.{key}", f'nothing fills in {unknown[0]} of "{prompt}"; {slots}'
            elif not prompt.strip():
                yield f"pipeline.{key}", "a template is empty"
    for name, phrases in recipe.concepts.pinned.items():
        if not all(phrase.strip() for phrase in phrases):
            yield "concepts.pinned", f'a phrase of "{name}" is empty'


def refused(recipe: Recipe, said: Mapping[str, int]) -> list[str]:
    """Say what of a recipe cannot act although somebody set it, a text for each reason; none where all is well.

    said: dotted keys that were set, and in which layer; with the default's value a key asks for nothing.
    """
    found = {key: why for key, why in wrong_texts(recipe) if key in said} | dict(impossible(recipe))
    for one in idle(recipe):
        decided = max(said.get(key, UNSAID) for key in one.by)
        for key in (key for key in said if key == one.key or key.startswith(f"{one.key}.")):
            meant = said[key] > decided or (said[key] == decided and decided > one.beside)
            if meant and key != "informing.enabled" and attrgetter(key)(recipe) != default(type(recipe), key):
                found.setdefault(key, one.why)
    return [f"{', '.join(key for key in found if found[key] == why)}: {why}" for why in dict.fromkeys(found.values())]


def layers(model: type[BaseModel], stack: Sequence[Mapping[str, Any]], overrides: Sequence[str]) -> dict[str, int]:
    """Return the dotted keys that a recipe's texts, or ``key=value`` texts over them, set, with their layer.

    stack: plain values of each text, the file's own last. Values that spell every key out are a recipe's that was
    written down (`to_yaml`): nobody set them.
    """
    known = keys(model)
    leaves = [key for key in known if not any(other.startswith(f"{key}.") for other in known)]
    whole = {key for key in leaves if not any(f"{key}.".startswith(f"{later}.") for later in LATER)}
    found: dict[str, int] = {}
    for layer, values in enumerate(stack, FILE + 1 - len(stack)):
        of_text = {key: layer for key in leaves if _has(values, key.split("."))}
        found |= {} if whole <= of_text.keys() else of_text
    for typed in (text.partition("=")[0].strip() for text in overrides):
        for key in leaves:
            if f"{typed}.".startswith(f"{key}.") or f"{key}.".startswith(f"{typed}."):
                found[key] = TYPED
    return found


def _has(values: Any, path: Sequence[str]) -> bool:
    return not path or (isinstance(values, Mapping) and path[0] in values and _has(values[path[0]], path[1:]))
