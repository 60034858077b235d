"""Under which licence the models stand that recipes name, for `concord doctor` and for error messages."""

from __future__ import annotations

_LICENCES = {
    "facebook/DiT-XL-2-256": "CC-BY-NC-4.0",
    "facebook/DiT-XL-2-512": "CC-BY-NC-4.0",
    "radames/stable-diffusion-2-1-unclip-img2img": "CreativeML Open RAIL++-M",
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": "MIT",
    "madebyollin/taesd": "MIT",
}


def licence(model: str) -> str:
    """Return a model's licence as its publisher names it; ``licence not known here`` for any other."""
    if model.startswith("reef:"):
        return "Apache-2.0"
    if model.startswith("models/minimax"):
        return "CC-BY-NC-4.0, as DiT"
    return _LICENCES.get(model, "licence not known here")
