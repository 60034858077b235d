"""Your own photographs: a small set of real images, its page, and how well a student learns from it.

    python examples/own_photos.py my-photos --test held-out-photos

FOLDER has a folder of images for each class; the embedded `reef` stands in for it. Nothing is downloaded. Where there
is a GPU, `concord init my-photos` writes a recipe that makes images with a diffusion model instead of choosing them.
"""

import argparse

import concord

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photos", metavar="FOLDER", nargs="?", default="reef")
parser.add_argument("--test", help="real images that are held out, in folders of the same names")
parser.add_argument("--ipc", type=int, default=10, help="images per class")
parser.add_argument("--size", type=int, default=64, help="side of the stored images in pixels")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--out", default="out/examples")
args = parser.parse_args()

data = concord.open_data(args.photos)
for entry in data.classes:
    print(f"{len(data.items(entry.label)):6} images of {entry.class_name}")

# herding takes the images that together lie nearest to the mean of their class; random is the choice to beat.
recipe = concord.load_recipe("photos", data=args.photos, method="herding", ipc=args.ipc, size=args.size)
run = concord.distill(recipe, out=f"{args.out}/own-photos")
print(f"{run.results['images']} images in {run.out / 'images'}; open {run.report}")

test = args.test or ("reef-test" if args.photos == "reef" else None)
if test is None:
    print("give --test FOLDER to train a student on the set and test it on real images")
else:
    scores = concord.evaluate(run, test=test, student=["convnet-3"], protocol="hard", epochs=args.epochs, seeds=1)
    print(scores.table())
