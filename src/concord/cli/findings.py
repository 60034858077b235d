"""What is installed, cached and missing on this machine."""

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import features
from rich.text import Text

from concord.cli.catalogue import load_bundled
from concord.cli.console import Console
from concord.errors import ConcordError
from concord.models.hub import WEIGHTS, hub_cache
from concord.recipe import bundled
from concord.system import cores, memory, package_version, version
from concord.text import plain
from concord.workflows.requirements import Needed, needed_models

_NEEDED = ("torch", "diffusers", "transformers", "safetensors", "huggingface_hub", "numpy", "Pillow", "pydantic")
_OPTIONAL = ("torchvision", "timm", "accelerate", "openai", "pyarrow")


@dataclass(frozen=True)
class Finding:
    """About what, what was found, whether it is well (None: neither), what to do if not, and details, a line each."""

    about: str
    found: str
    well: bool | None = None
    advice: str = ""
    lines: tuple[str, ...] = ()


def examine() -> dict[str, list[Finding]]:
    """Return findings by heading. Nothing is downloaded and no model is loaded."""
    return {"This machine": _machine(), "Packages": _packages(), "Recipes and their models": _recipes()}


def _machine() -> list[Finding]:
    here, free = platform.system(), shutil.disk_usage(Path.cwd()).free
    return [
        Finding("concord", f"{version()}, Python {platform.python_version()}, {here} {platform.machine()}"),
        _device(),
        Finding("CPU", f"{cores()} core{'s' if cores() != 1 else ''}, {memory() / 2**30:.1f} GB of memory"),
        Finding("disk", f"{free / 2**30:.1f} GB free here", free > 2**30, "free some space"),
        Finding("hub cache", str(hub_cache()) + ("" if hub_cache().is_dir() else " (empty)")),
        Finding("offline", "HF_HUB_OFFLINE is set: nothing is downloaded")
        if os.environ.get("HF_HUB_OFFLINE")
        else Finding("downloads", "on: a model that is missing is fetched from the Hugging Face hub at first use"),
    ]


def _device() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("device", f"torch cannot be imported: {error}", False, "pip install --force-reinstall torch")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("device", f"cuda ({', '.join(names)})", True)
    if torch.backends.mps.is_available():
        return Finding("device", "mps (Apple GPU)", True)
    return Finding("device", "cpu: enough for reef and for real images; large diffusion models want a GPU", True)


def _packages() -> list[Finding]:
    needed = [(name, package_version(name)) for name in _NEEDED]
    findings = [Finding(name, found or "missing", found is not None, f"pip install {name}") for name, found in needed]
    findings += [Finding(name, found) for name in _OPTIONAL if (found := package_version(name))]
    formats = {"WebP": "webp", "AVIF": "avif", "JPEG 2000": "jpg_2000"}
    have = ", ".join(["JPEG", "PNG", *(name for name, feature in formats.items() if features.check(feature))])
    webp = bool(features.check("webp"))
    return [*findings, Finding("image formats", have, webp, "this Pillow cannot write WebP: use png or jpeg")]


def _recipes() -> list[Finding]:
    findings = []
    for name in bundled():
        try:
            recipe, _ = load_bundled(name)  # which models it needs does not depend on the data
        except ConcordError as error:
            findings.append(Finding(name, str(error), False))
            continue
        needed = needed_models(recipe)
        missing = [one for one in needed if one.path is None]
        if missing:
            found = f"{len(needed) - len(missing)} of {len(needed)} models present"
        else:
            found = f"{len(needed)} models present, {sum(one.bytes for one in needed) / 1e6:.0f} MB"
        findings.append(Finding(name, found if needed else "needs no model", not missing, lines=_lines(needed)))
    return findings


def _lines(needed: Sequence[Needed], most: int = 6) -> tuple[str, ...]:
    """A line a model: which it is, under which licence, and whether it is here. What is beyond `most` is counted."""
    lines = []
    for one in needed:
        if one.path is not None:
            state = "present"
        elif one.model.startswith("reef:"):
            state = "missing: reinstall concord"
        elif one.model.endswith(WEIGHTS):
            state = "missing: train it with concord teacher"
        elif one.model.startswith("models/"):
            state = "missing: make it with concord convert"
        else:
            state = "not cached: fetched at first use or by concord download, or give a directory"
        lines.append(f"{one.model}  ({one.licence})  {state}")
    return tuple(lines) if len(lines) <= most + 1 else (*lines[:most], f"and {len(lines) - most} more")


def show_doctor(findings: Mapping[str, Sequence[Finding]], console: Console | None = None) -> None:
    """Print findings by heading, with advice where something is wrong."""
    console = console or Console()
    marks = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "dim")}
    for i, (heading, group) in enumerate(findings.items()):
        if i:
            console.print()
        console.print(Text(heading, "bold"))
        width = max(len(f.about) for f in group)
        for f in group:
            advice = (f"  {f.advice}", "yellow") if f.well is False and f.advice else ("", "")
            console.say("  ", marks[f.well], f" {f.about:<{width}}  ", plain(f.found), advice)
            for detail in f.lines:
                console.say((f"      {detail}", "dim"))
