"""Any pipeline of diffusers, informed by concepts: the same seeds without and with them, in one picture.

    python examples/own_pipeline.py
    python examples/own_pipeline.py --model stabilityai/sd-turbo --encoder openai/clip-vit-large-patch14 \
        --prompt "a photo of a beagle" --show "beagle with long drooping ears" --hide "basset hound with short legs"
"""

import argparse
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image

import concord
from concord.models.hub import model_path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="reef:pipeline", help="a directory, a hub id, or the embedded one")
parser.add_argument("--encoder", default="reef:clip", help="CLIP or SigLIP")
parser.add_argument("--prompt", default="coral perch", help="a class of a class-conditional pipeline")
parser.add_argument("--show", action="append", help="what the images shall show")
parser.add_argument("--hide", action="append", help="what would be another class")
parser.add_argument("--strength", type=float, default=0.3, help="of the shift, by the predicted noise's size")
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--images", type=int, default=2)
parser.add_argument("--out", default="out/examples/own-pipeline.png")
args = parser.parse_args()
show = args.show or ["coral perch with a deeply forked tail", "coral perch with dark bars across the body"]

device = "cuda" if torch.cuda.is_available() else "cpu"
pipe = DiffusionPipeline.from_pretrained(model_path(args.model)).to(device)
encoder = concord.load_encoder(args.encoder, device=device)
if hasattr(pipe, "get_label_ids"):  # class-conditional
    condition = {"class_labels": pipe.get_label_ids([args.prompt]) * args.images}
else:
    condition = {"prompt": [args.prompt] * args.images}


def images() -> list[Image.Image]:
    seeds = [torch.Generator(device).manual_seed(seed) for seed in range(args.images)]
    return pipe(**condition, generator=seeds, num_inference_steps=args.steps).images


rows = [images()]
texts = {"positives": [show] * args.images, "negatives": args.hide or ["river perch with a white belly"]}
with concord.inform(pipe, encoder, **texts, strength=args.strength):
    rows.append(images())

width, height = rows[0][0].size
sheet = Image.new("RGB", (width * args.images, height * 2))
for y, row in enumerate(rows):
    for x, image in enumerate(row):
        sheet.paste(image, (x * width, y * height))
Path(args.out).parent.mkdir(parents=True, exist_ok=True)
sheet.save(args.out)
print(f"{args.out}: above without, below with {', '.join(show)}")
