"""A method of one's own in a script: of each class the images with the most contrast.

python examples/own_method.py my-photos

To give it a name that recipes and commands know, put it into a package: docs/extend.md.
"""

import argparse

from PIL import ImageStat

import concord
from concord.data import ImageSet
from concord.methods.base import Cost, GeneratedImage
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe


class Contrast:
    """What every method has: it plans samples, and makes their images."""

    batch_size = 1
    variants = ("images",)

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self.recipe, self.data, self.order = recipe, data, {}

    def count(self, class_index: int, ipc: int) -> int:
        return min(ipc, len(self.data.items(class_index)))

    def sample(self, class_index: int, index: int) -> Sample:
        if class_index not in self.order:
            items = self.data.items(class_index)[:100]
            self.order[class_index] = sorted(items, key=self.contrast, reverse=True)
        seed = sample_seed(self.recipe.seed, self.data.classes[class_index].key, index)
        return Sample(class_index, index, seed, source=self.order[class_index][index])

    def contrast(self, item: str) -> float:
        return ImageStat.Stat(self.data.read(item).convert("L")).stddev[0]

    def make(self, batch: list[Sample], variant: str) -> list[GeneratedImage]:
        return [GeneratedImage(self.data.read(sample.source)) for sample in batch]

    def cost(self) -> Cost:
        return Cost()


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photos", metavar="FOLDER", nargs="?", default="reef")
parser.add_argument("--ipc", type=int, default=10)
parser.add_argument("--out", default="out/examples")
args = parser.parse_args()

# The recipe gives what all methods share (data, IPC, seed); `method=` takes the place of the one that it names.
recipe = concord.load_recipe("photos", data=args.photos, ipc=args.ipc, size=None)
run = concord.distill(recipe, out=f"{args.out}/contrast", method=Contrast)
for sample in run.samples("images")[:3]:
    print(sample.class_name, sample.index, sample.image.size)
print(f"{run.results['images']} images in {run.out / 'images'}")
