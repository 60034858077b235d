"""Methods compared on the same real images: students trained on each set, over seeds.

    python examples/compare_methods.py --ipc 10

Of `informed` the twins without concepts are evaluated, too. On two CPU cores it takes minutes.
"""

import argparse

import concord

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="reef", help="reef, or a folder of its classes")
parser.add_argument("--test", default="reef-test", help="real images to test on")
parser.add_argument("--ipc", type=int, default=1)
parser.add_argument("--steps", type=int, default=50, help="of the diffusion model")
parser.add_argument("--epochs", type=int, default=300)
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--student", default="convnet-3")
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--out", default="out/examples/methods")
args = parser.parse_args()

common = {"data": args.data, "ipc": args.ipc}
real = {**common, "size": None}
recipes = {
    "random": concord.load_recipe("photos", **real),
    "herding": concord.load_recipe("photos", method="herding", **real),
    "rded": concord.load_recipe("reef", method="rded", **common),
    "informed": concord.load_recipe("reef", pipeline={"steps": args.steps}, **common),
}
settings = {
    **{"student": [args.student], "width": args.width, "size": 32, "teacher": "reef:teacher"},
    **{"protocol": "rded", "epochs": args.epochs, "seeds": args.seeds},
}
runs = {name: concord.distill(recipe, out=f"{args.out}/{name}") for name, recipe in recipes.items()}
sets = {**{name: run.out for name, run in runs.items()}, "uninformed": runs["informed"].out / "uninformed"}
for name, directory in sets.items():
    record = concord.evaluate(directory, test=args.test, out=f"{args.out}/{name}.json", **settings).record
    top1 = record["cells"][0]["top1"]["last"]
    print(f"{name:>10}  {top1['mean']:5.1f} ± {top1['std']:.1f} % of the test images")

# The comparison by image, of what informing changed in each of them:
gain = runs["informed"].results["completeness"]["gain"]
print(f"informed shows {100 * gain['mean']:+.1f} points more of its classes' details than uninformed, paired by seed")
