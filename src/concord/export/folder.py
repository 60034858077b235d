"""Layout `folder`: an image folder, as torchvision's `ImageFolder`, timm and `datasets` read it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from concord.export.made import MadeSet
from concord.export.write import Options, Reading, columns, names_of, write_pictures
from concord.registry import LayoutSpec
from concord.runs.store import Row

LAYOUT = LayoutSpec(
    "folder",
    "concord.export.folder:write",
    "An image folder, for torchvision, timm and datasets.",
    images="concord.export.folder:images",
)


def write(made: MadeSet, root: Path, options: Options) -> Reading:
    """Fill `root` with ``<class>/<index>.png`` and ``metadata.jsonl``; labels count the folders in sorted order."""
    write_pictures(root, ((f"{p.path.parent.name}/{p.path.name}", p.label, p) for p in made.pictures))
    code = (
        "from torchvision.datasets import ImageFolder   # labels: the folders in sorted order\n"
        'train = ImageFolder("DIR")\n\n'
        "from datasets import load_dataset              # the same labels, with seeds and prompts beside them\n"
        'train = load_dataset("DIR", split="train")'
    )
    return Reading("**", code, columns=columns(names_of(made.classes)))


def images(root: Path, rows: Sequence[Row]) -> Iterator[bytes]:
    """Yield the file of each row of the manifest."""
    for row in rows:
        yield (root / row["file_name"]).read_bytes()
