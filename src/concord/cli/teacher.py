"""`concord teacher`: a classifier trained on all real images, whose soft labels students learn from."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.text import counted, duration


def teacher(
    data: Annotated[str, Argument(metavar="DATA", help="The real images: a folder, Parquet, or reef.")],
    out: Annotated[Path, Option(metavar="FILE", help="Where it goes, a name in .safetensors.")],
    overrides: Annotated[
        list[str] | None, Argument(metavar="KEY=VALUE", help="student, size, epochs, lr, batch, seed, ...")
    ] = None,
    test: Annotated[
        str | None, Option(metavar="DATA", help="Images to judge it on; a split of DATA if it has one.")
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only say what would be trained, and how long it takes: some steps are timed.")
    ] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a teacher from nothing on real images, 300 epochs unless told otherwise.

    Killed, the same command goes on.

      concord teacher photos --out teacher.safetensors student=resnet-18

      concord evaluate my-set --test photos/validation teacher=teacher.safetensors
    """
    with user_errors(out.parent):
        from concord.cli.evaluate_views import show_steps
        from concord.cli.progress import Epochs
        from concord.data import open_data, restrict
        from concord.evaluation.estimate import estimate_teacher
        from concord.evaluation.train_teacher import checkpoint_of, held_out, read_teacher_settings, teach

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
