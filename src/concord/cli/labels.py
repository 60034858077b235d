"""`concord labels`: a teacher's soft labels, stored with the views that they belong to."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.text import duration, plain, size


def labels(
    directory: Annotated[Path, Argument(metavar="DIR", help="The small set: an image folder, Parquet, float images.")],
    out: Annotated[Path, Option(metavar="LABELS", help="The directory to fill.")],
    overrides: Annotated[
        list[str] | None,
        Argument(metavar="KEY=VALUE", help="teacher, student, protocol, ipc, seeds (one of each), top_k, bits."),
    ] = None,
    test: Annotated[
        str | None, Option(metavar="DATA", help="Images to check the teacher on; the set's own if not given.")
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only say what would be stored, and how long it takes: some steps are timed.")
    ] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Store soft labels ahead (Fast Knowledge Distillation): a training with them needs no teacher.

    top_k=N keeps the N largest probabilities, bits=float16 or uint8 fewer bits of each.

    Whole float32 labels (the default) train exactly as the teacher online. Killed, the same command goes on.

      concord labels out/reef --out reef-labels student=convnet-3 ipc=10 bits=uint8

      concord evaluate out/reef --test reef-test student=convnet-3 ipc=10 soft_labels=reef-labels
    """
    with user_errors(out):
        from concord.cli.evaluate_views import show_steps
        from concord.cli.progress import Epochs
        from concord.evaluation.estimate import estimate_labels
        from concord.evaluation.label import label, prepared, read_label_settings

        settings, form = read_label_settings(overrides or [])
        with Epochs(Console(stderr=True), quiet) as progress:
            if dry_run:
                found = estimate_labels(prepared(directory, settings, test, progress), out, form)
            else:
                head = label(directory, out, settings, form, test, progress)
        if dry_run and as_json:
            print_json(found.as_json())
        elif dry_run:
            show_steps(found, "labels", str(directory), out)
        elif as_json:
            print_json(head)
        elif not quiet:
            of = "all classes" if head["top_k"] is None else f"the {head['top_k']} likeliest classes"
            print(
                f"{head['images']} images x {head['epochs']} epochs labelled by {plain(head['teacher_name'])}, {of},"
                f" {head['bits']}: {size(head['bytes'])} in {duration(head['seconds'])}"
            )
            print(f"use them: soft_labels={out}")
