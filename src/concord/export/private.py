"""What an export may say of the machine that the set was made on: names, not the paths to them."""

from __future__ import annotations

from typing import Any

from concord.export.made import Picture
from concord.recipe import Recipe


def shown(text: str) -> str:
    """Return the last part of what is a path on this machine; a hub id, a name or a sentence stays as it is."""
    forward = text.replace("\\", "/")
    path_like = forward.startswith(("/", "~", "./", "../")) or forward[1:3] == ":/"
    return forward.rstrip("/").rpartition("/")[2] if path_like else text


def shown_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the resolved recipe with every path shortened, keys of maps included."""

    def shorten(value: Any) -> Any:
        if isinstance(value, dict):
            return {shown(key): shorten(one) for key, one in value.items()}
        if isinstance(value, list):
            return [shorten(one) for one in value]
        return shown(value) if isinstance(value, str) else value

    return {key: shorten(value) for key, value in recipe.model_dump(mode="json", by_alias=True).items()}


def public_row(picture: Picture) -> dict[str, Any]:
    """Return a manifest row for others' eyes.

    `source`, the condition image's place below the data set's folder, stays; an absolute one and the checkpoint's are
    cut to their last part.
    """
    row = dict(picture.row)
    for key in ("source", "checkpoint"):
        row[key] = shown(str(row.get(key, "")))
    if "crops" in row:
        row["crops"] = [{**crop, "source": shown(str(crop["source"]))} for crop in row["crops"]]
    return row
