"""`concord concepts`: banks of phrases, from a class name to those that the real images bear out."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option, Typer

from concord.cli.common import AsJson
from concord.cli.console import Console, print_json
from concord.cli.retrieve import retrieve
from concord.errors import ConcordError
from concord.storage.atomic import write_json
from concord.text import meant, nearest, plain

if TYPE_CHECKING:
    from torch import Tensor

    from concord.concepts.compare import Rate
    from concord.data import ImageSet
    from concord.models.encoder import Encoder


app = Typer(
    name="concepts",
    help="Concepts: short visual phrases that tell each class from its look-alikes.",
    no_args_is_help=True,
)
BankName = Annotated[str, Argument(metavar="BANK", help="A bundled bank (see `banks`) or a JSON file.")]
Data = Annotated[str, Argument(metavar="DATA", help="A folder with a folder of images a class, or reef.")]
EncoderName = Annotated[
    str | None, Option("--encoder", help="CLIP or SigLIP, a directory or hub id; a recipe's default if not given.")
]
Classes = Annotated[list[str] | None, Option(help="Only these classes: folders or names, repeated or with commas.")]
Images = Annotated[int, Option(min=0, help="Real images a class, evenly spaced; 0 takes all.")]
SkipUnreadable = Annotated[bool, Option("--skip-unreadable", help="Leave out images that cannot be read.")]
GreyRange = Annotated[
    tuple[int, int] | None,
    Option("--grey-range", metavar="BLACK WHITE", help="Values of 16-bit grey in use, as 0 4095; all if not given."),
]
MANY = 40_000
"""Pairs of classes beyond which `negatives` leaves out what would take hours."""


app.command()(retrieve)


@app.command()
def banks() -> None:
    """List the bundled banks and where they come from."""
    from concord.cli import concepts_views as views
    from concord.concepts.bank import bundled_banks, load_bank

    views.show_banks([load_bank(name) for name in bundled_banks()])


@app.command()
def show(
    class_name: Annotated[str, Argument(metavar="CLASS", help="The class, by its name in the banks.")],
    bank: Annotated[
        list[str] | None, Option(help="Look in this bank (may be given again); in all bundled ones if not given.")
    ] = None,
) -> None:
    """Show a class's phrases and look-alikes."""
    from concord.cli import concepts_views as views
    from concord.concepts.bank import bundled_banks, find_class, load_bank

    views.show_class(find_class([load_bank(name) for name in bank or bundled_banks()], class_name))


@app.command()
def lint(bank: BankName, as_json: AsJson = False) -> None:
    """Check a bank's phrases: one line a fault, with its class and phrase.

    Exit code 0: clean. 1: there are faults. 2: the bank cannot be read.
    """
    from concord.cli import concepts_views as views
    from concord.concepts.bank import load_bank
    from concord.concepts.lint import lint as check

    read = load_bank(bank)
    faults = check(read)
    views.show_faults(read, faults, as_json)
    if faults:
        raise Exit(1)


@app.command(name="import")
def import_(
    file: Annotated[Path, Argument(help="A JSON object: class name to list of phrases.")],
    out: Annotated[Path, Option(help="The bank to write.")],
    name: Annotated[str | None, Option(help="The bank's name; the file's if not given.")] = None,
) -> None:
    """Turn a published descriptor file of zero-shot classification into a bank, and say what lint thinks of it."""
    from concord.cli import concepts_views as views
    from concord.concepts.bank import read_descriptors, write_bank
    from concord.concepts.lint import lint as check

    bank, notes = read_descriptors(file, name)
    faults = check(bank)
    write_bank(bank, out)
    views.show_import(bank, out, notes, faults)


@app.command()
def select(
    bank: BankName,
    data: Data,
    encoder: EncoderName = None,
    keep: Annotated[int, Option(min=1, help="Phrases that a class keeps.")] = 5,
    images: Images = 100,
    pin: Annotated[
        list[str] | None, Option(metavar="CLASS=PHRASE", help="A phrase that is never dropped; may be repeated.")
    ] = None,
    classes: Classes = None,
    chart: Annotated[Path | None, Option(help="Draw the activations into this PNG file.")] = None,
    out: Annotated[Path | None, Option(help="Write them as a run's concepts.json has them.")] = None,
    skip_unreadable: SkipUnreadable = False,
    grey_range: GreyRange = None,
    cluster: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="Rate on a Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rate a bank's phrases on real images and keep the most active (Eq. 10).

    concord concepts select reef reef --encoder reef:clip --chart activations.png
    """
    from concord.cli import concepts_views as views
    from concord.concepts.bank import load_bank
    from concord.concepts.selection import name_similarity, select_classes, selection_record

    chosen, real = load_bank(bank), _data(data, classes, skip_unreadable, grey_range)
    how: dict[str, Any] = {"keep": keep, "most": images or None, "pinned": _pins(pin or [])}
    how["skip_unreadable"] = skip_unreadable
    rater = _rater(encoder)
    with views.working("rating phrases on real images"):
        if cluster is None:
            selection = select_classes(real, chosen, rater, **how)
        else:
            from concord.storage.cluster import connected
            from concord.workflows.select import Selecting, select_on

            asked = Selecting(data, tuple(_words(classes)), grey_range, chosen, _encoder_name(encoder), how)
            with connected(cluster) as nodes:
                selection = select_on(nodes, asked, real, lambda note: Console(stderr=True).say(f"note: {plain(note)}"))
        names = [entry.class_name for entry in real.classes]
        similarity = name_similarity(rater, names)
    record = selection_record(chosen.name, _encoder_name(encoder), real.classes, selection, similarity)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, record)
    if chart is not None:
        from concord.report.charts import activation_chart, save

        note = f"Eq. 10: cosine with the mean real image of the class · {views.some_images(images)}"
        title = f"Phrases that the real images bear out: {chosen.name} on {Path(data).name}"
        save(activation_chart(list(zip(names, selection, strict=True)), title, note), chart)
    if as_json:
        print_json(record)
    else:
        views.show_selection(f"{chosen.name} on {data}", real, selection, _encoder_name(encoder), images)
        views.show_written(out, chart)


@app.command()
def negatives(
    bank: BankName,
    data: Annotated[str, Argument(metavar="DATA|LIST", help="Labelled images, or a class list (imagewoof, ...).")],
    encoder: EncoderName = None,
    kind: Annotated[str, Option(help="weighted by name similarity, similar (the k nearest), or random.")] = "weighted",
    k: Annotated[int, Option(min=1, help="How many nearest classes `similar` draws from.")] = 5,
    count: Annotated[int, Option(min=0, help="Negatives a sample.")] = 10,
    class_name: Annotated[
        list[str] | None, Option("--class", help="Only this class, with all others; may be repeated.")
    ] = None,
    heatmap: Annotated[Path | None, Option(help="Draw the similarity of the names into this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say from which classes a sample's negatives come, and how likely.

    concord concepts negatives reef reef --encoder reef:clip --heatmap names.png
    """
    from concord.cli import concepts_views as views
    from concord.concepts.bank import load_bank
    from concord.concepts.negatives import chances, checked_kind
    from concord.concepts.selection import bank_key, name_similarity
    from concord.data.class_lists import class_list, class_lists

    chosen, how = load_bank(bank), checked_kind(kind)
    if data in class_lists():
        names = keys = [listed.name for listed in class_list(data)]
    else:
        table = _data(data, None).classes
        names, keys = [entry.class_name for entry in table], [bank_key(entry) for entry in table]
    chosen.require(keys)
    wanted = [_position(word, names) for word in class_name or []]
    rater = _rater(encoder)
    with views.working("embedding class names"):
        similarity = name_similarity(rater, names)
    if heatmap is not None:
        from concord.report.charts import save
        from concord.report.similarity import by_likeness
        from concord.report.similarity import heatmap as draw

        order = by_likeness(similarity)
        save(draw([names[i] for i in order], similarity[order][:, order]), heatmap)
    phrases = [chosen.phrases(key) for key in keys]
    few = len(wanted or names) * len(names) <= MANY  # else the chances to give any would take hours
    drawing = [chances(similarity[c], c, how, k, count, whole=few) for c in wanted or range(len(names))]
    settings = {"kind": how, "k": k, "count": count}
    views.show_negatives(names, phrases, drawing, settings, bool(wanted), as_json)
    if not as_json:
        views.show_written(heatmap)


@app.command()
def score(
    bank: BankName,
    data: Data,
    encoder: EncoderName = None,
    images: Images = 100,
    classes: Classes = None,
    skip_unreadable: SkipUnreadable = False,
    grey_range: GreyRange = None,
    as_json: AsJson = False,
) -> None:
    """Measure zero-shot accuracy with a bank's phrases against bare class names, on labelled images.

    Where the encoder cannot be had, it is written as not measured, with exit code 2.
    """
    from concord.cli import concepts_views as views
    from concord.concepts.bank import load_bank
    from concord.concepts.compare import score as measure
    from concord.concepts.selection import bank_key

    chosen, real = load_bank(bank), _data(data, classes, skip_unreadable, grey_range)
    chosen.require([bank_key(entry) for entry in real.classes])
    try:
        rater = _rater(encoder)
    except ConcordError as error:
        if as_json:
            print_json({"measured": False, "reason": str(error)})
        raise ConcordError(f"not measured: {error}") from error
    with views.working("classifying real images"):
        scores = measure(chosen, real, rater, images or None, skip_unreadable)
    views.show_scores(f"{chosen.name} on {data}", real, scores, _encoder_name(encoder), images, as_json)


@app.command()
def compare(
    a: Annotated[str, Argument(metavar="A", help="A bank.")],
    b: Annotated[str, Argument(metavar="B", help="Another bank.")],
    data: Annotated[
        str | None, Argument(metavar="[DATA]", help="Labelled images, to show the phrases' activations on them.")
    ] = None,
    encoder: EncoderName = None,
    keep: Annotated[int, Option(min=1, help="Phrases that a class would keep.")] = 5,
    images: Images = 100,
    class_name: Annotated[list[str] | None, Option("--class", help="Only this class; may be repeated.")] = None,
    skip_unreadable: SkipUnreadable = False,
    grey_range: GreyRange = None,
    as_json: AsJson = False,
) -> None:
    """Show two banks side by side, class by class."""
    from concord.cli import concepts_views as views
    from concord.concepts.bank import find_class, load_bank
    from concord.concepts.compare import compare as pair_up

    both = load_bank(a), load_bank(b)
    names, rate = class_name, None
    for name in names or []:
        for bank in both:
            find_class([bank], name)
    if data is not None:
        real = _data(data, None, skip_unreadable, grey_range)
        chosen = [real.classes.find(name) for name in names] if names else list(real.classes)
        names = [entry.class_name for entry in chosen]
        rate = _rate(real, _rater(encoder), keep, images or None, skip_unreadable)
    with views.working("rating phrases on real images" if rate else "comparing"):
        pairs = pair_up(*both, rate, names)
    views.show_comparison((a, b), both, pairs, data, as_json)


def _data(
    data: str, classes: list[str] | None, skip_unreadable: bool = False, grey_range: tuple[int, int] | None = None
) -> "ImageSet":
    from concord.data import open_data, restrict

    opened = open_data(data, "skip" if skip_unreadable else "error", "--skip-unreadable", grey_range=grey_range)
    for note in opened.notes:
        Console(stderr=True).say(f"note: {plain(note)}")
    return restrict(opened, _words(classes) or None, {})


def _words(classes: list[str] | None) -> list[str]:
    return [word.strip() for part in classes or [] for word in part.split(",") if word.strip()]


def _encoder_name(encoder: str | None) -> str:
    from concord.recipe import Recipe

    return encoder or str(Recipe.model_fields["encoder"].default)


def _rater(encoder: str | None) -> "Encoder":
    from concord.models.encoder import Encoder
    from concord.models.hub import model_path
    from concord.system import resolve_device

    path = model_path(_encoder_name(encoder))
    return Encoder.from_pretrained(path, device=resolve_device("auto"), key="--encoder")


def _rate(data: "ImageSet", encoder: "Encoder", keep: int, most: int | None, skip_unreadable: bool) -> "Rate":
    from concord.concepts.selection import embed_images, mean_embedding
    from concord.concepts.selection import select as choose

    @cache
    def mean(class_name: str) -> "Tensor":
        return mean_embedding(embed_images(encoder, data, data.classes.find(class_name).label, most, skip_unreadable))

    return lambda name, phrases: choose(name, phrases, mean(name), encoder.texts_together, keep)


def _pins(pins: list[str]) -> dict[str, list[str]]:
    pinned: dict[str, list[str]] = {}
    for pin in pins:
        class_name, equals, phrase = (part.strip() for part in pin.partition("="))
        if not (class_name and equals and phrase):
            raise ConcordError(f'--pin: expected CLASS=PHRASE, as in "beagle=a white-tipped tail", got "{pin}"')
        pinned.setdefault(class_name, []).append(phrase)
    return pinned


def _position(word: str, names: list[str]) -> int:
    if len(found := meant(word, names)) != 1:
        raise ConcordError(f'unknown class "{word}"{nearest(word, names)}; there are {len(names)} classes')
    return names.index(found[0])
