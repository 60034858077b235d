"""A layout: images numbered in one folder, and a table of their labels."""

import csv
import shutil
from pathlib import Path

from concord.export import MadeSet, Options, Reading
from concord.registry import LayoutSpec


def write(made: MadeSet, root: Path, options: Options) -> Reading:
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label"])
        for number, picture in enumerate(made.pictures):
            name = f"{number:06d}{picture.path.suffix}"
            shutil.copyfile(picture.path, root / name)
            table.writerow([name, picture.label])
    return Reading("*.png", 'import csv\n\nrows = list(csv.DictReader(open("DIR/labels.csv")))')


LAYOUT = LayoutSpec("table", "concord_example.layout:write", "One folder, and a table of labels.")
