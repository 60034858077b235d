"""Layout `rded`: what the evaluator of RDED (LINs-lab/RDED, `validation/utils.py`) opens.

It goes through the labels 0, 1, ..., lists the folder named by the label in five digits, and takes any `ipc` files of
it: so a class folder must hold images alone, at least `ipc` of them. Its own synthesis names them by class and number.
"""

from pathlib import Path

from concord.export.made import MadeSet
from concord.export.write import Options, Reading, columns, names_of, numbered, write_classes, write_pictures
from concord.registry import LayoutSpec

LAYOUT = LayoutSpec("rded", "concord.export.rded:write", "What RDED's evaluator opens.")


def write(made: MadeSet, root: Path, options: Options) -> Reading:
    """Fill `root` with ``00000/class00000_id00000.png``, ... in label order, ``classes.txt`` and ``metadata.jsonl``."""
    write_pictures(root, numbered(made, made.classes, "class{label:05d}_id{index:05d}"))
    write_classes(root, made.classes)
    classes, most = len(made.classes), min(made.counts)
    notes = [
        "Its `main.py` makes a set of its own in that place first: call `validation.main.main(args)` alone.",
        "The validation images must lie in folders 00000, 00001, ... of the same order (`classes.txt`), and the"
        " teacher's outputs must have it too: check its accuracy on them first.",
    ]
    if max(made.counts) > most:
        notes.append(f"Classes have {most} to {max(made.counts)} images, and RDED takes as many of each: --ipc {most}.")
    code = f'args.syn_data_path, args.ipc, args.nclass = "DIR", {most}, {classes}'
    return Reading("**", code, tuple(notes), columns(names_of(made.classes)))
