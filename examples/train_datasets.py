"""A small set by way of `datasets`: exported to Parquet with its data card, read again, and a model trained on it.

    pip install 'concord-distill[hub]'
    concord distill reef
    python examples/train_datasets.py out/reef

What `concord export --layout parquet` writes is what the hub shows: images, and labels that know their names.
"""

import argparse
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.models import resnet18
from torchvision.transforms import v2

from concord.export import export

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", nargs="?", default="out/reef", help="the directory of a run")
parser.add_argument("--size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--out", default="out/examples")
args = parser.parse_args()

target = Path(args.out) / f"{Path(args.run).name}-parquet"
if not target.exists():
    export(Path(args.run), "parquet", target)
rows: Dataset = load_dataset(str(target), split="train", cache_dir=f"{args.out}/cache")
names = rows.features["label"].names
print(rows)

views = [v2.ToImage(), v2.RandomResizedCrop(args.size, (0.5, 1.0)), v2.RandomHorizontalFlip()]
view = v2.Compose([*views, v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
train = rows.with_transform(lambda some: {"x": [view(image) for image in some["image"]], "y": some["label"]})

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = resnet18(num_classes=len(names)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
loader = DataLoader(train, batch_size=min(50, len(rows)), shuffle=True)
for epoch in range(args.epochs):
    for batch in loader:
        loss = cross_entropy(model(batch["x"].to(device)), batch["y"].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1:3}  loss {loss.item():.3f}  on {len(rows)} images of {', '.join(names[:2])}, ...")
