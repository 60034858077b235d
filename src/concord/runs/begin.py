"""The beginning of a run: whether it may be made in a directory, and what that is then marked with."""

import json
import platform
from pathlib import Path
from typing import Any

from concord.data import ImageSet
from concord.data.checks import files_of
from concord.errors import ConcordError
from concord.recipe import HEADER, Recipe, differing, identity, to_yaml
from concord.runs.directory import earlier
from concord.storage.atomic import read_json, write_atomically, write_json
from concord.system import package_version, version

_CONTENT = ("content", "content_of_all")
"""What `environment.json` has of the bytes of real images: of a sample, and of all where the recipe asks for it."""
_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "Pillow")


def check(out: Path, recipe: Recipe, data: ImageSet) -> list[str]:
    """Say whether `recipe` may make its set in `out`: it is new, or was begun with the same identity.

    Returns:
        Notes for the user, such as another library version than the set was begun with.

    Raises ConcordError: the directory holds something else; the message names the keys that differ.
    """
    if (files := files_of(data)) is not None and files.root.resolve() == out.resolve():
        raise ConcordError(f"{out} is where the real images lie; give another --out")
    begun_as = earlier(out)
    if begun_as is None:
        mine = [name for name in ("recipe.yaml", "images", "uninformed") if (out / name).exists()]
        if mine:
            raise ConcordError(f"{out} holds a {mine[0]} that concord did not make; give another --out")
        return []
    keys = differing(identity(begun_as), identity(recipe))
    if keys:
        there, here = identity(begun_as), identity(recipe)
        shown = "; ".join(f"{key} was {_at(there, key)}, now {_at(here, key)}" for key in keys[:4])
        more = f"; and {len(keys) - 4} more keys" if len(keys) > 4 else ""
        raise ConcordError(f"{out} was made with another recipe: {shown}{more}. Give another --out, or change it back")
    if recipe.ipc < begun_as.ipc and recipe.spec.ipc != "all":
        raise ConcordError(
            f"{out} was begun with ipc={begun_as.ipc}, and a set only grows; give that or more, not {recipe.ipc}"
        )
    begun = read_json(out / "environment.json")
    before, now, packages = begun.get("data"), data_facts(data, recipe), begun.get("packages")
    known, notes = before if isinstance(before, dict) else {}, []
    changed = [key for key, value in now.items() if known.get(key, value if key in _CONTENT else None) != value]
    if before is not None and changed:
        same_names = {*changed} <= {*_CONTENT}
        what = "files of the same names hold something else now" if same_names else "as many, but others"
        if "images" in changed:
            what = f"there were {_at(begun, 'data.images')}, now {now['images']}"
        said = f"the images in {recipe.data} are not those that {out} was begun with ({what})"
        if recipe.unreadable == "error" or not same_names:
            raise ConcordError(f"{said}; restore them, or give another --out")
        notes.append(said)  # one that can be read no more is passed over
    old = packages if isinstance(packages, dict) else {}
    others = [f"{name} {old[name]} -> {v}" for name, v in versions().items() if old.get(name, v) != v]
    return notes + [f"begun with other versions ({', '.join(others)}): bytes may differ"] * bool(others)


def begin(out: Path, recipe: Recipe, data: ImageSet, device: str) -> None:
    """Leave recipe.yaml and environment.json in `out`, before the first image."""
    before = read_json(out / "environment.json").get("data")
    write_atomically(out / "recipe.yaml", (HEADER + to_yaml(recipe)).encode())
    values = {
        "concord": version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "threads": recipe.threads,
        "packages": versions(),
        "data": {**(before if isinstance(before, dict) else {}), **data_facts(data, recipe)},
    }
    write_json(out / "environment.json", values)


def data_facts(data: ImageSet, recipe: Recipe) -> dict[str, Any]:
    """What tells the real images from others."""
    images = sum(len(data.items(entry.label)) for entry in data.classes)
    found = {"fingerprint": data.fingerprint, "classes": len(data.classes), "images": images}
    if (files := files_of(data)) is not None:
        found |= {key: getattr(files, key) for key in _CONTENT[: 2 if recipe.fingerprint == "all" else 1]}
    return found


def versions() -> dict[str, str]:
    """The installed versions of packages that bytes depend on."""
    found = {name: package_version(name) for name in _PACKAGES}
    return {name: v for name, v in found.items() if v is not None}


def _at(values: dict[str, Any], key: str) -> str:
    level: Any = values
    for name in key.split("."):
        level = level.get(name) if isinstance(level, dict) else None
    text = json.dumps(level, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
