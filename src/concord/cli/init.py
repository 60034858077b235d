"""`concord init`: a recipe for one's own photographs, written after a look at them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from concord.cli.console import Console
from concord.cli.first_steps import show_first_steps
from concord.errors import ConcordError
from concord.text import counted, file_name, folded, plain

if TYPE_CHECKING:
    from concord.data.checks import Split, Survey
    from concord.recipe import Pipeline
    from concord.workflows.requirements import Needed


class Way(StrEnum):
    """What makes the images, and how real ones come in."""

    unclip = "unclip"
    ip_adapter = "ip-adapter"
    start_real = "start-real"


_WAYS = {
    Way.unclip: "Real images of a class and prompts with its name condition SD 2.1 unCLIP",
    Way.ip_adapter: "Real images of a class (by IP-Adapter) and prompts with its name condition SD 1.5",
    Way.start_real: "SD 1.5 begins from real images of a class under noise, with prompts of its name",
}


def init(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="One folder of images for each class.")],
    out: Annotated[
        Path | None, Option(help="The recipe to write; named after FOLDER, in this directory, if not given.")
    ] = None,
    bank: Annotated[
        str | None, Option(help="A concept bank, bundled or a file; one that has all classes if not given.")
    ] = None,
    ipc: Annotated[int, Option(min=1, help="Images per class.")] = 10,
    pipeline: Annotated[
        Way,
        Option(
            help="SD 2.1 unCLIP (unclip), SD 1.5 with real images as prompts (ip-adapter), or SD 1.5 from real images"
            " under noise (start-real)."
        ),
    ] = Way.unclip,
    model: Annotated[str | None, Option(help="Another pipeline of that kind: a directory or hub id.")] = None,
    force: Annotated[bool, Option("--force", help="Write over a recipe that is there.")] = False,
) -> None:
    """Look at a folder of photographs and write a recipe for it (unCLIP, informed, no training).

    concord init my-photos
    concord init my-photos --bank my-bank.json --ipc 50
    concord init my-photos --pipeline ip-adapter
    """
    from concord.concepts.bank import load_bank
    from concord.data import open_data
    from concord.data.checks import held_out, survey
    from concord.recipe.load import parse
    from concord.storage.atomic import write_atomically
    from concord.workflows.requirements import needed_models

    data = open_data(str(folder), unreadable="skip")
    found, splits = survey(data), held_out(data, folder)
    name = file_name(folder.resolve().name)
    path = out or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise ConcordError(f"{path} is there already; give another --out, or --force to write over it")
    chosen = bank if bank is not None else _covering_bank(found.classes)
    if bank is not None:
        load_bank(bank).require(found.classes)
    held = [_split(split, _from(path, split.path)) for split in splits]
    text = recipe_text(_from(path, folder), name, found, chosen, ipc, model, held, pipeline)
    recipe = parse(text, name)  # what is written must be a recipe
    write_atomically(path, text.encode())
    _show(folder, path, found, data.notes, chosen, splits, needed_models(recipe))


def _from(recipe: Path, folder: Path) -> Path:
    """The folder as the recipe names it: from where that lies, so that both move together; absolute if so given."""
    here = recipe.parent.resolve()
    if folder.is_absolute() and not folder.resolve().is_relative_to(here):
        return folder
    return Path(os.path.relpath(folder.resolve(), here))


def recipe_text(
    folder: Path,
    name: str,
    found: Survey,
    bank: str | None,
    ipc: int,
    model: str | None,
    splits: Sequence[str] = (),
    way: Way = Way.unclip,
) -> str:
    """The recipe's YAML, with comments that say what may be changed. bank: None to inform by class names.

    folder: the data as the recipe names it. splits: what is held out, a line each. way: what makes the images.
    """
    from concord.recipe import load

    base = load("custom" if way is Way.unclip else "custom-ip", [f"data={folder}"])
    pipeline, informing = base.pipeline, base.informing
    shown = ", ".join(found.classes[:8]) + (" ..." if len(found.classes) > 8 else "")
    side = f"{found.median_side} px (median of the shorter side)"
    temperature = f"\n  temperature: {informing.temperature}"
    grey = (
        f"\ngrey_range: {[*found.grey]} # 16-bit images use no more: null would leave them black" if found.grey else ""
    )
    objective, concepts = "", f"concepts:\n  bank: {_scalar(bank)}"
    head = [
        f"{len(found.classes)} classes, {found.images} images, {side}: {shown}",
        "",
        f"  concord distill {shlex.quote(name + '.yaml')}",
        "",
        f"{_WAYS[way]}; concepts inform it. No training.",
        "Each key below can be set on the command line, too, as in ipc=50 (a finished set grows in place).",
    ]
    if bank is None:
        temperature = ""  # nothing is contrasted
        objective = "\n  objective: {contrastive: 0, class_name: 1} # no bank has these classes: see above"
        concepts = "concepts:"
        head += [
            "",
            "No bundled bank has all these classes, so the class names alone inform. Concepts tell look-alikes apart:",
            f"  concord concepts retrieve {shlex.quote(str(folder))} --out {name}-bank.json",
            f"  concord init {shlex.quote(str(folder))} --bank {name}-bank.json --force",
        ]
    if splits:
        head += ["", "The training split is used. Held out, for evaluation:", *(f"  {line}" for line in splits)]
    return (
        "".join(f"# {_printable(line)}".rstrip() + "\n" for line in head)  # a name must not end its comment
        + f"""schema: 1
name: {_scalar(name)}
method: {base.method}
data: {_scalar(str(folder))}
# classes: [a, b]            # a part of the classes
# class_names: {{folder: name}} # where a folder is not called what a person would call it
ipc: {ipc}
seed: 0
size: {base.size} # side of the stored images in pixels
unreadable: skip{grey}
uninformed: false # true makes the same images without informing as well, to compare
batch_size: {base.batch_size}
encoder: {base.encoder}
pipeline:
  model: {_scalar(model or str(pipeline.model))} # or a directory{_image_lines(pipeline, way)}
  tiny_decoder: {pipeline.tiny_decoder}
  steps: {pipeline.steps}
  guidance_scale: {pipeline.guidance_scale}
  scheduler: {pipeline.scheduler}
informing:
  mode: {informing.mode}
  strength: {informing.strength}{temperature}
  window: {list(informing.window)}
  every: {informing.every}
  between: {informing.between}
  decoder: {informing.decoder}{objective}
{concepts}
  keep: {base.concepts.keep} # the phrases that the photographs bear out most
  images: {base.concepts.images}
  # pinned: {{class: [a phrase]}} # never dropped
  negatives: {{kind: weighted, count: 10}}
scorer: {{kind: percentile}}
"""
    )


def _image_lines(pipeline: Pipeline, way: Way) -> str:
    """The lines of a recipe's pipeline that say how real images come in, where the method does not."""
    if way is Way.start_real:
        return "\n  start: real # under noise: near copies are likely, and reported\n  image_strength: 0.5 # of noise"
    if pipeline.ip_adapter is None:
        return ""
    adapter = ", ".join(f"{key}: {value}" for key, value in pipeline.ip_adapter if value is not None)
    return f"\n  ip_adapter: {{{adapter}}} # real images as prompts"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line)


def _split(split: Split, path: Path) -> str:
    of = "the same classes" if split.same else "other classes" if split.images else "no class folders"
    return f"{path} ({counted(split.images, 'image')}, {of})"


def _scalar(value: str | None) -> str:
    """A text as YAML, quoted where it needs to be."""
    import yaml

    text: str = yaml.safe_dump(value, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _covering_bank(classes: Sequence[str]) -> str | None:
    """The smallest bundled bank that has all classes, or None."""
    from concord.concepts.bank import bundled_banks, load_bank

    banks = {name: load_bank(name).classes for name in bundled_banks()}
    covering = [name for name, known in banks.items() if set(map(folded, classes)) <= set(map(folded, known))]
    return min(covering, key=lambda name: (len(banks[name]), name), default=None)


def _show(
    folder: Path,
    path: Path,
    found: Survey,
    notes: Sequence[str],
    bank: str | None,
    splits: Sequence[Split],
    models: Sequence[Needed],
) -> None:
    console = Console()
    line = console.say
    low, high = min(found.counts), max(found.counts)
    each = f"{low}" if low == high else f"{low} to {high}"
    what = f"{counted(len(found.classes), 'class')}, {counted(found.images, 'image')}"
    line(("found  ", "bold green"), f"{what} in {plain(str(folder))} ({each} a class)")
    for name, count in list(zip(found.classes, found.counts, strict=True))[:20]:
        line(f"  {count:>6}  {plain(name)}")
    if len(found.classes) > 20:
        line(("          ...", "dim"))
    low, high = found.sides
    looked = f"{found.looked_at} of {counted(found.images, 'image')} looked at"
    line(("  sides   ", "dim"), f"{low} to {high} px, median {found.median_side} (the shorter ones; {looked})")
    held = [f"{plain(_split(split, split.path.absolute()))}: held out, for evaluation" for split in splits]
    for text in held or ["none: keep some images in another folder to evaluate on"]:
        line(("  split   ", "dim"), text)
    for note in notes:
        line((f"  note: {plain(note)}", "dim"))
    for warning in found.warnings:
        line((f"  {plain(warning)}", "yellow"))
    line()
    line(("wrote  ", "bold green"), plain(str(path)) + (f", with grey_range={[*found.grey]}" if found.grey else ""))
    if bank is None:
        line("  no bundled bank has all these classes: the class names alone inform, until you have a bank")
        quoted = plain(shlex.quote(str(folder)))
        line(("  better  ", "dim"), f"concord concepts retrieve {quoted} --out bank.json")
        line(("          ", "dim"), f"concord init {quoted} --bank bank.json --force")
    else:
        line(("  bank    ", "dim"), bank)
    show_first_steps(console, str(folder), str(path), models)
    line(("  next    ", "dim"), f"concord distill {plain(shlex.quote(str(path)))} --dry-run")
    line(("  then    ", "dim"), f"concord distill {plain(shlex.quote(str(path)))}")
