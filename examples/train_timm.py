"""A model of timm trained on a small set, with timm's own transforms, schedule and mixing of images.

pip install 'concord-distill[timm]'
concord distill reef
python examples/train_timm.py out/reef/images --model resnet18
"""

import argparse

import timm
import torch
from timm.data import Mixup, create_dataset, create_transform
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch.utils.data import DataLoader

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("train", nargs="?", default="out/reef/images", help="a run's images/, or any such folder")
parser.add_argument("--model", default="resnet18", help="a name of timm; its weights are drawn at random")
parser.add_argument("--size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=30)
args = parser.parse_args()

transform = create_transform(args.size, is_training=True, scale=(0.5, 1.0), auto_augment="rand-m5-mstd0.5")
train = create_dataset("", root=args.train, is_training=True, transform=transform)  # "": a folder of class folders
classes = len(train.reader.class_to_idx)
batch = min(50, len(train) // 2 * 2)  # pairs are mixed

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = timm.create_model(args.model, num_classes=classes).to(device)
optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.01)
schedule = CosineLRScheduler(optimizer, t_initial=args.epochs, lr_min=1e-5)
mix, loss_of = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, num_classes=classes), SoftTargetCrossEntropy()
loader = DataLoader(train, batch_size=batch, shuffle=True, drop_last=True)
for epoch in range(args.epochs):
    model.train()
    for images, labels in loader:
        images, targets = mix(images.to(device), labels.to(device))
        loss = loss_of(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    schedule.step(epoch + 1)
    print(f"epoch {epoch + 1:3}  loss {loss.item():.3f}  on {len(train)} images of {classes} classes")
