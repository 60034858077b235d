"""`concord download`: the models of a recipe, fetched ahead."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from concord.cli.common import AsJson, RecipeKeys, RecipeName
from concord.cli.console import Console, print_json
from concord.text import counted, plain, size

if TYPE_CHECKING:
    from concord.workflows.download import Wanted


def download(
    recipe: RecipeName,
    overrides: RecipeKeys = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would be fetched.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the models of a recipe, each with its size and licence.

    They go into the cache of the Hugging Face hub (HF_HOME says where), from the hub or the mirror that HF_ENDPOINT
    names. Interrupted, the same command goes on: files that are whole are kept.

      concord download imagewoof-dit --dry-run
    """
    from concord.cli.catalogue import load_bundled
    from concord.workflows.download import download as fetch
    from concord.workflows.download import wanted

    loaded, _ = load_bundled(recipe, overrides or [])  # which models it needs does not depend on the data
    models = wanted(loaded)
    console = Console(stderr=as_json)
    if not quiet:
        _show(loaded.name, models, console)
    if not dry_run:
        silent = quiet or not console.is_terminal

        def starting(remote: Any) -> None:
            if not quiet and remote.missing:
                console.say(("fetching  ", "bold green"), f"{plain(remote.model)} ({size(remote.missing)})")

        fetch(loaded, models, starting, silent)
        if any(one.remote for one in models):
            models = wanted(loaded)
            if not quiet:
                console.say(("done  ", "bold green"), _summary(models))
    if as_json:
        print_json({"recipe": loaded.name, "models": [_record(one) for one in models]})


def _show(name: str, models: "Sequence[Wanted]", console: Console) -> None:
    """Two short lines a model, so that nothing is cut at 80 columns."""
    from concord.models.hub import hub_cache

    console.say(("concord ", "bold"), f"{plain(name)} · {counted(len(models), 'model')}")
    for one in models:
        mark = ("✓", "green") if one.needed.path is not None else ("✗", "red") if one.why else ("·", "dim")
        console.say("  ", mark, f" {plain(one.needed.model)}")
        console.say((f"      {plain(_state(one))}  ({one.needed.key})", "dim"))
    console.say(("  ", ""), _summary(models))
    if any(one.remote for one in models):
        console.say((f"  into {plain(str(hub_cache()))}", "dim"))


def _state(one: "Wanted") -> str:
    if one.needed.path is not None:
        return f"here, {size(one.needed.bytes)}, {one.needed.licence}"
    if one.remote is None:
        return f"{one.needed.licence}; {one.why}"
    here = f", {size(one.remote.here)} of them here" if one.remote.here else ""
    return f"{size(one.remote.bytes)} in {counted(len(one.remote.files), 'file')}{here}, {one.remote.licence}"


def _summary(models: "Sequence[Wanted]") -> str:
    remotes = {one.remote.model: one.remote.missing for one in models if one.remote is not None}
    if not models:
        return "this recipe needs no model"
    if not remotes:
        here = sum(one.needed.path is not None for one in models)
        return f"nothing to fetch: {here} of {counted(len(models), 'model')} here"
    return f"{size(sum(remotes.values()))} to fetch for {counted(len(remotes), 'model')}"


def _record(one: "Wanted") -> dict[str, Any]:
    remote = one.remote
    return {
        **one.needed.record,
        "licence": remote.licence if remote else one.needed.licence,
        "bytes": remote.bytes if remote else one.needed.bytes,
        "missing_bytes": remote.missing if remote else 0,
        "reason": one.why or None,
    }
