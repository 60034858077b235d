"""The families that come with concord; what they build is imported when a model is loaded."""

from concord.registry import FamilySpec

DIT = FamilySpec(
    "dit",
    ("DiTPipeline",),
    "concord.pipelines.dit:DiT",
    "DiT (Peebles and Xie 2023), conditioned on class ids",
    frozenset({"class"}),
)
UNCLIP = FamilySpec(
    "unclip",
    ("StableUnCLIPImg2ImgPipeline",),
    "concord.pipelines.unclip:UnCLIP",
    "Stable Diffusion unCLIP, conditioned on a real image of the class and a prompt",
    frozenset({"prompt", "image"}),
)
TEXT = FamilySpec(
    "text",
    ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "PixArtSigmaPipeline"),
    "concord.pipelines.text:build",
    "text-to-image pipelines that the own sampler knows",
    frozenset({"prompt"}),
)
ANY = FamilySpec(
    "any",
    ("DiffusionPipeline",),
    "concord.pipelines.any:AnyPipeline",
    "any other text-to-image or image-to-image pipeline, called as it is",
    frozenset({"prompt"}),
    exact=False,
)
