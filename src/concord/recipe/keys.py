"""Every key of a recipe with its type, default and description: as rows, as docs/recipe.md, as a JSON schema."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from concord.errors import ConcordError
from concord.recipe.model import Recipe, recipe_class
from concord.registry import GUIDES, METHODS, OURS, SCORERS, Registry

Json = dict[str, Any]
_BOUNDS = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "up to"}
_TYPES = {"integer": "whole number", "string": "text", "boolean": "true or false", "object": "keys and values"}
_EXTENDS = """Of a file alone: recipes, bundled or files, that this one is laid over, each over the one before; sections
are merged key by key, lists replaced."""
HEAD = """# Every key of a recipe

A recipe is one YAML file that decides everything a run does. A key left out takes its default. On the command line
`key=value` sets one, with dots between the names: `concord distill reef informing.strength=0.2`.

A key that was set and cannot act is refused: `informing.weight` in mode fast, `format.quality` of a PNG, `rded.factor`
of another method. What is set in the file may be silenced from the command line, as `informing.strength` is by
`informing.mode=exact`; and what `informing.enabled: false` or a method on real images turns off keeps its settings.

This page is written by `concord recipes --keys --markdown`. `concord recipes --keys` prints the same, with what other
packages add. For an editor that reads JSON schemas, begin a recipe with

```yaml
# yaml-language-server: $schema=recipe.schema.json
```

and write that file beside it by `concord recipes --schema > recipe.schema.json`; without what other packages add it
lies in the package, as `concord/recipes/recipe.schema.json`.

| key | type | default | what it says |
|---|---|---|---|"""


def rows(plugins: bool = True) -> list[dict[str, str]]:
    """Every dotted key with its type, default and description; sections come before their keys.

    plugins: with what other packages add.
    """
    return list(_rows(whole := schema(plugins), whole["$defs"]))


def markdown() -> str:
    """The text of docs/recipe.md."""
    lines = [HEAD]
    for row in rows(plugins=False):
        cells = (f"`{row['key']}`", row["type"], f"`{row['default']}`" if row["default"] else "", row["description"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def schema(plugins: bool = True) -> Json:
    """The JSON schema of a recipe's file, in which no key has to be there: the command line may give it.

    plugins: with what other packages add.
    """
    whole = Recipe.model_json_schema()
    properties, parts = whole["properties"], whole["$defs"]
    del whole["required"]
    for name in _names(METHODS, plugins):
        with suppress(ConcordError):  # one that does not import says so when it is asked for
            if (shape := recipe_class(name)) is not Recipe:
                own = shape.model_json_schema()
                properties[name] = own["properties"][name]
                parts |= own["$defs"]
    for key, registry in (("method", METHODS), ("kind", SCORERS)):
        node = properties[key] if key in properties else parts["Scorer"]["properties"][key]
        del node["type"]
        node["anyOf"] = [{"enum": _names(registry, plugins)}, {"type": "string"}]
    # What the short forms allow, which validators take apart before the types are looked at.
    properties["classes"]["anyOf"].append({"type": "string"})
    parts["Pipeline"]["properties"]["model"]["anyOf"].append({"type": "array", "items": {"type": "string"}})
    parts["Negatives"]["properties"]["kind"]["anyOf"] = [
        {"enum": parts["Negatives"]["properties"]["kind"].pop("enum")},
        {"pattern": "^similar-[0-9]+$"},
    ]
    guide = {"anyOf": [{"enum": _names(GUIDES, plugins)}, {"type": "string"}]}
    properties["guides"]["items"] = {
        "anyOf": [guide, {"type": "object", "properties": {"name": guide}, "required": ["name"]}]
    }
    one = {"type": "string"}
    extends = {"anyOf": [one, {"type": "array", "items": one}], "default": [], "description": _EXTENDS}
    whole["properties"] = {"extends": extends, **properties}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "title": "concord recipe"}


def _names(registry: Registry[Any], plugins: bool) -> list[str]:
    return [name for name in registry if plugins or registry.package(name).split()[0] == OURS]


def _rows(part: Json, parts: Mapping[str, Json], prefix: str = "") -> Iterator[dict[str, str]]:
    for name, node in part["properties"].items():
        inner = parts[node["$ref"].rpartition("/")[2]] if "$ref" in node else None
        text = node.get("description") or (inner or {}).get("description", "")
        default = "" if inner or "default" not in node else json.dumps(node["default"], ensure_ascii=False)
        kind = "section" if inner else _words(node)
        yield {"key": prefix + name, "type": kind, "default": default, "description": " ".join(text.split())}
        if inner:
            yield from _rows(inner, parts, f"{prefix}{name}.")


def _words(node: Json) -> str:
    """A JSON schema's type in words: ``whole number above 0 or null``."""
    if "$ref" in node:
        return _TYPES["object"]
    if "anyOf" in node:
        known = any("enum" in one for one in node["anyOf"])  # beside known words, that others may be there goes unsaid
        open_ends = (
            "pattern" in one or (known and one.get("type") == "string" and "enum" not in one) for one in node["anyOf"]
        )
        words = [_words(one) for one, is_open in zip(node["anyOf"], open_ends, strict=True) if not is_open]
        return " or ".join(dict.fromkeys(words))
    if "enum" in node or "const" in node:
        return " | ".join(map(str, node.get("enum", [node.get("const")])))
    if "prefixItems" in node:
        return f"list of {len(node['prefixItems'])}: {_words(node['prefixItems'][0])}"
    if node.get("type") == "array":
        return f"list of {_words(node['items'])}"
    bounds = [f" {word} {node[key]}" for key, word in _BOUNDS.items() if key in node]
    return _TYPES.get(str(node["type"]), str(node["type"])) + ",".join(bounds)
