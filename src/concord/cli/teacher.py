"""`concord teacher`: a classifier trained on all real images, whose soft labels students learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.errors import ConcordError
from concord.text import counted, duration, plain


def teacher(
    data: Annotated[str, Argument(metavar="DATA", help="The real images: a folder, Parquet, or reef.")],
    out: Annotated[
        Path, Option(metavar="PLACE", help="Where it goes, a name in .safetensors; of several, a directory.")
    ],
    overrides: Annotated[
        list[str] | None, Argument(metavar="KEY=VALUE", help="student, size, epochs, lr, batch, seed, ...")
    ] = None,
    test: Annotated[
        str | None, Option(metavar="DATA", help="Images to judge it on; a split of DATA if it has one.")
    ] = None,
    workers: Annotated[
        int | None, Option(min=1, help="Trainings at a time, of several; as many as cores if not given.")
    ] = None,
    cluster: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="Train several on a Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT."),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only say what would be trained, and how long it takes: some steps are timed.")
    ] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a teacher from nothing on real images, 300 epochs unless told otherwise.

    Killed, the same command goes on. Several values of a key train a teacher for each.

      concord teacher photos --out teacher.safetensors student=resnet-18

      concord teacher photos --out teachers student=resnet-18,convnet-3 seed=0,1,2

      concord evaluate my-set --test photos/validation teacher=teacher.safetensors
    """
    with user_errors(out.parent):
        from concord.cli.evaluate_views import show_steps
        from concord.cli.progress import Epochs
        from concord.data import open_data, restrict
        from concord.evaluation.estimate import estimate_teacher
        from concord.evaluation.train_teacher import checkpoint_of, held_out, read_teacher_settings, teach
        from concord.workflows.teachers import trainings

        if len(swept := trainings(overrides or [])) > 1:
            if dry_run:
                raise ConcordError("--dry-run times one training: give one value of each key")
            _teach_several(data, test, swept, out, workers, cluster, Console(stderr=True), quiet, as_json)
            return
        if cluster or workers:
            key = "--cluster" if cluster else "--workers"
            raise ConcordError(f"{key} shares out several trainings, as of seed=0,1,2, and this is one: leave it out")
        settings, protocol = read_teacher_settings(overrides or [])
        part = checkpoint_of(out)
        whole = open_data(data, grey_range=settings.grey_range, max_pixels=settings.max_pixels)
        images = restrict(whole, settings.classes, {})
        held = held_out(data, test, whole, images, settings)
        with Epochs(Console(stderr=True), quiet) as progress:
            for note in [*images.notes, *(held.notes if held else ["no test images: its accuracy is not read"])]:
                progress.note(note)
            if dry_run:
                if part.exists():
                    progress.note(f"{part.name} is there: the command goes on from it, in less time than is said here")
                found = estimate_teacher(images, held, settings, protocol)
            else:
                made = teach(images, held, settings, protocol, out, progress)
        if dry_run and as_json:
            print_json(found.as_json())
        elif dry_run:
            show_steps(found, "teacher", data, out)
        elif as_json:
            facts = {key: getattr(made, key) for key in ("student", "images", "size", "epochs", "accuracy")}
            print_json({"file": str(out), **facts, "seconds": round(made.seconds, 1)})
        elif not quiet:
            said = f", {made.accuracy:.1f} % of the test images" if made.accuracy is not None else ""
            print(
                f"{made.student} on {counted(made.images, 'image')} of {counted(made.classes, 'class')} at {made.size}"
                f" px, {counted(made.epochs, 'epoch')} in {duration(made.seconds)}{said}"
            )
            print(f"use it: teacher={out}")


def _teach_several(
    data: str,
    test: str | None,
    swept: Mapping[str, Sequence[str]],
    out: Path,
    workers: int | None,
    cluster: str | None,
    console: Console,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a sweep, and print a row a teacher."""
    from concord.cli.progress import Teachers
    from concord.storage.cluster import connected_if
    from concord.workflows.teachers import teach_all

    if out.suffix == ".safetensors":
        raise ConcordError(f"{out} is the name of one file, and {len(swept)} teachers are trained: give a directory")
    with connected_if(cluster) as nodes, Teachers(console, quiet) as progress:
        made = teach_all(data, test, swept, out, progress, workers=workers, cluster=nodes)
    if as_json:
        print_json({"directory": str(out), "teachers": [asdict(one) for one in made]})
    elif not quiet:
        rows = []
        for one in made:
            said = "no test images" if one.accuracy is None else f"{one.accuracy:.1f} % of the test images"
            took = "was there" if one.seconds is None else f"in {duration(one.seconds)}"
            rows.append(
                (plain(Path(one.file).stem), f"{said}, {counted(one.epochs, 'epoch')} at {one.size} px, {took}")
            )
        Console().rows(rows)
        print(f"use one: teacher={made[0].file}")
