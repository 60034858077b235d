"""`concord rehearse`: what a recipe takes on this device, before its models are downloaded."""

from typing import TYPE_CHECKING, Annotated

from typer import Option

from concord.cli.common import AsJson, RecipeKeys, RecipeName, user_errors
from concord.cli.console import Console, print_json
from concord.events import Silent
from concord.text import counted, duration, plain, size

if TYPE_CHECKING:
    from concord.workflows.whole_run import Rehearsal


def rehearse(
    recipe: RecipeName,
    overrides: RecipeKeys = None,
    images: Annotated[int, Option(min=1, help="Images that are made.")] = 2,
    steps: Annotated[int, Option(min=1, help="Steps that each is made in; the last is timed.")] = 2,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but the outcome and errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try a recipe's models at their real size with random weights: memory, seconds a step, time of the whole run.

    Nothing is downloaded, and no data are needed: two random images go through every stage.

      concord rehearse imagewoof-dit
      concord rehearse custom dtype=bfloat16 batch_size=1
    """
    with user_errors():
        from concord.cli.catalogue import load_bundled
        from concord.workflows.rehearse import rehearse as play
        from concord.workflows.whole_run import record

        loaded, _ = load_bundled(recipe, overrides or [])  # what its models take does not depend on the data
        console = Console(stderr=True)
        found = play(loaded, images, steps, Silent() if quiet else _Stages(console))
    if as_json:
        print_json(record(found))
    else:
        show_rehearsal(found)


class _Stages(Silent):
    """Says what is being done, a line each."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def stage(self, text: str) -> None:
        self._console.say((f"  {text} ...", "dim"))


def show_rehearsal(found: "Rehearsal", console: Console | None = None) -> None:
    """Print what a rehearsal found."""
    console, recipe = console or Console(), found.recipe
    about = f"{recipe.name} · {recipe.method} · {found.device}, {recipe.dtype}"
    console.say(("concord ", "bold"), f"{plain(about)} ", ("(random weights)", "yellow"))
    lines = [
        (one["key"], f"{one['model']}: {one['parameters'] / 1e6:,.0f} M parameters".replace(",", " "))
        for one in found.models
    ]
    lines += [
        ("memory", f"{size(found.weights)} with every model loaded, {size(found.free)} were free"),
        *((f"  {name}", f"{size(one.memory)} at most, {_at_once(one.images)}") for name, one in found.timed.items()),
        ("  a batch", _batch(found)),
    ]
    lines += [("step", ", ".join(f"{_short(one.step)} {name}" for name, one in found.timed.items()))]
    lines += [("decoding", _short(next(iter(found.timed.values())).decoding))]
    if found.text is not None and found.real_image is not None:
        lines += [("encoder", f"{_short(found.text)} a text, {_short(found.real_image)} a real image")]
    if found.rating is not None:
        lines += [("rating", f"{_short(found.rating)} an image")]
    taken = f"{counted(found.evaluations, 'step')}, {found.gradients} of them informed"
    lines += [("an image", f"{duration(found.seconds_per_image)} ({taken}{_pair(found)})")]
    lines += [("the run", _whole(found))]
    console.rows(lines)


def _at_once(images: int) -> str:
    return f"{counted(images, 'image')} at once"


def _batch(found: "Rehearsal") -> str:
    said = f"about {size(found.memory)} for {_at_once(found.recipe.batch_size)}"
    if found.fits:
        return f"{said}: it fits"
    return f"{said}: too much, it will be made {found.largest_batch} at once (memory.batch)"


def _pair(found: "Rehearsal") -> str:
    return ", and once more uninformed" if found.recipe.uninformed and found.recipe.is_guided else ""


def _whole(found: "Rehearsal") -> str:
    if found.seconds is None or found.classes is None:
        return "not known without the data: how many classes are there?"
    workers = f", {counted(found.workers, 'worker')}"
    made = f"{counted(found.classes, 'class')} x {found.recipe.ipc}"
    chosen = f", {duration(found.selection)} of it to choose concepts" if found.selection else ""
    left = " and the choice of concepts" if found.recipe.uses_concepts and found.selection is None else ""
    return f"about {duration(found.seconds)}{left} for {made}{workers}{chosen}"


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.995 else duration(seconds)
