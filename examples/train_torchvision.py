"""A model trained on a small set by a plain loop of PyTorch: nothing of concord is left but a folder of images.

concord distill reef
concord distill photos data=reef-test method=full size=null --out out/reef-test
python examples/train_torchvision.py out/reef/images --test out/reef-test/images
"""

import argparse

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("train", nargs="?", default="out/reef/images", help="a run's images/, or any such folder")
parser.add_argument("--test", default="out/reef-test/images", help="real images in folders of the same names")
parser.add_argument("--size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=30)
args = parser.parse_args()

to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
views = v2.Compose([v2.RandomResizedCrop(args.size, (0.5, 1.0)), v2.RandomHorizontalFlip(), *to_tensor])
whole = v2.Compose([v2.Resize(args.size), v2.CenterCrop(args.size), *to_tensor])
train = ImageFolder(args.train, views)
test = ImageFolder(args.test, whole)
assert train.classes == test.classes, "the folders of both must have the same names"

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = resnet18(num_classes=len(train.classes)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
loader = DataLoader(train, batch_size=min(50, len(train)), shuffle=True)
for epoch in range(args.epochs):
    model.train()
    for images, labels in loader:
        loss = cross_entropy(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1:3}  loss {loss.item():.3f}")

model.eval()
with torch.inference_mode():
    right = [model(images.to(device)).argmax(1).cpu() == labels for images, labels in DataLoader(test, batch_size=100)]
print(f"{100 * torch.cat(right).float().mean():.1f} % of {len(test)} real images")
