"""Texts on a nested pydantic model: ``key=value`` settings with dotted keys, and what is wrong with values.

Recipes are read by it; it knows none of their keys.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationError
from pydantic_core import PydanticKnownError

from concord.errors import ConcordError
from concord.registry import Registry
from concord.text import nearest


def known(registry: Registry[Any]) -> BeforeValidator:
    """Take a name that is registered; what is wrong with another is said as of a choice among literals."""

    def check(name: Any) -> Any:
        if isinstance(name, str) and name in registry:
            return name
        *names, last = [f"'{one}'" for one in registry] or registry.get(str(name))
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(names)} or {last}" if names else last})

    return BeforeValidator(check)


def _rising(values: tuple[int, int]) -> tuple[int, int]:
    if values[0] >= values[1]:
        raise ValueError(f"expected black below white, as in [0, 4095], got {list(values)}")
    return values


GreyRange = Annotated[tuple[int, int], AfterValidator(_rising)]


def read_yaml(text: str, loader: type[yaml.SafeLoader | yaml.BaseLoader] = yaml.SafeLoader) -> Any:
    """Return what YAML says; a ValueError says where it is none, gives a key twice, or a value that is none."""
    place = 0
    try:
        reader = loader(text)
        root = reader.get_single_node()
        nodes, count = [root] if root is not None else [], 0
        while nodes:
            node, count = nodes.pop(), count + 1
            place = node.start_mark.line
            if count > _MOST_VALUES:  # by aliases a line can say gigabytes, or hold itself
                raise ValueError("too many values")
            if isinstance(node, yaml.ScalarNode):
                try:
                    reader.construct_object(node)
                except ValueError as error:
                    shown = f"{node.value[:40]} is no value ({error})"
                    raise ValueError(f"{shown}; if it is a text, put it in quotes") from None
            elif isinstance(node, yaml.MappingNode):
                seen: set[str] = set()
                for key, value in node.value:
                    place = key.start_mark.line
                    if isinstance(key, yaml.ScalarNode):
                        if key.value in seen:
                            raise ValueError(f'the key "{key.value}" is given twice')
                        seen.add(key.value)
                    nodes.append(value)
            else:
                nodes += node.value
        return None if root is None else reader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place, reason = mark.line if mark else place, str(error.problem or error.context)
    except yaml.reader.ReaderError as error:
        place, reason = text.count("\n", 0, error.position), f"the character #x{error.character:02x} is not allowed"
    except RecursionError:
        reason = "too deeply nested"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"at line {place + 1}: {' '.join(reason.split())}") from None


_MOST_VALUES = 100_000


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return every dotted key that the values of a model may hold."""
    found = []
    for name, field in model.model_fields.items():
        found.append(key := prefix + (field.alias or name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += keys(field.annotation, f"{key}.")
    return found


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with others set over them, key by key within a section; a list is replaced as a whole."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = laid_over(merged[key], value) if both else copy.deepcopy(value)
    return merged


def override(model: type[BaseModel], values: dict[str, Any], text: str) -> None:
    """Set one ``key=value`` of a model in nested plain values, in place; a ConcordError names the nearest key."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConcordError(f'expected key=value, as in ipc=10, got "{text}"')
    path, annotation = _target(model, key)
    level = values
    for name in path[:-1]:
        inner = level.get(name)
        level[name] = dict(inner) if isinstance(inner, dict) else {}
        level = level[name]
    level[path[-1]] = _value(value, annotation, key)


def _target(root: type[BaseModel], key: str) -> tuple[list[str], Any]:
    """Return the path and the annotation of a dotted key; what follows a free map's name is one key of it."""
    model, names = root, key.split(".")
    for depth, name in enumerate(names):
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == name), None)
        if field is None:
            break
        annotation, rest = field.annotation, names[depth + 1 :]
        if not rest:
            return names, annotation
        if get_origin(annotation) is dict:
            return [*names[: depth + 1], ".".join(rest)], get_args(annotation)[1]
        parts = (one for one in (annotation, *get_args(annotation)) if isinstance(one, type))  # null or a section, too
        section = next((one for one in parts if issubclass(one, BaseModel)), None)
        if section is None:
            break
        model = section
    raise ConcordError(f'unknown key "{key}"{_nearest_key(root, key)}')


def _nearest_key(model: type[BaseModel], key: str) -> str:
    """Hint at the key that was meant: the same last name in another part, else the one that looks most like it."""
    same_leaf = [known for known in keys(model) if known.rpartition(".")[2] == key.rpartition(".")[2]]
    if len(same_leaf) == 1:
        return f' (did you mean "{same_leaf[0]}"?)'
    leaves = {known.rpartition(".")[2]: known for known in reversed(keys(model))}
    whole, leaf = nearest(key, keys(model)), nearest(key, leaves)
    if whole or not leaf:
        return whole
    name = leaf.split('"')[1]
    return f' (did you mean "{leaves[name]}"?)'


def _value(text: str, annotation: Any, key: str) -> Any:
    """Parse an override's value as YAML, except that text stays text: a folder may be called 007 or no."""
    plain, nullable = _plain(annotation)
    word = text.strip().lower()
    if nullable and word in ("null", "~", "none", "") and word not in get_args(plain):  # norm=none is a norm
        return None
    if plain is str:
        return text
    is_text = get_origin(plain) in (list, dict) and str(plain).endswith("str]")
    try:
        # BaseLoader reads every scalar as text, so that classes=[001, no] names the folders 001 and no.
        value = read_yaml(text, yaml.BaseLoader if is_text else yaml.SafeLoader)
    except ValueError:
        raise ConcordError(f'{key}: cannot read the value "{text}"') from None
    if get_origin(plain) is list and is_text and isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return value


def _plain(annotation: Any) -> tuple[Any, bool]:
    """Strip Annotated and None from an annotation: (what is left, whether None was there)."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    parts = get_args(annotation)
    if type(None) in parts:
        rest = [p for p in parts if p is not type(None)]
        return (_plain(rest[0])[0] if len(rest) == 1 else annotation), True
    return annotation, False


_EXPECTED = {
    **dict.fromkeys(("int_parsing", "int_from_float", "int_type"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    **dict.fromkeys(("dict_type", "model_type"), "keys and values"),
    "finite_number": "a finite number",
    "string_type": "text (in YAML, put it in quotes)",
    "list_type": "a list, as in [a, b]",
    "tuple_type": "a list, as in [0, 1]",
    "string_pattern_mismatch": "auto, cpu, mps, cuda or cuda:0",
}
"""What pydantic's error types mean to a user."""


def complaints(model: type[BaseModel], error: ValidationError) -> str:
    """Say every key of a model that is wrong, once each, in the order of its fields."""
    by_key: dict[str, list[Any]] = {}
    for one in error.errors():
        # A union adds the tried type to the place, as in workers.constrained-int; a user knows the key alone.
        places = [str(part) for part in one["loc"]]
        key = ".".join(place for place in places if "[" not in place and place != "constrained-int")
        by_key.setdefault(key, []).append(one)
    return "; ".join(_complaint(model, key, ones) for key, ones in by_key.items())


def _complaint(model: type[BaseModel], key: str, errors: Sequence[Any]) -> str:
    """Say what is wrong with one key; a value that fits none of several types has several errors."""
    first = errors[0]
    kind, message, given = first["type"], str(first["msg"]), first.get("input")
    if kind == "extra_forbidden":
        return f'unknown key "{key}"{_nearest_key(model, key)}'
    if key == "data" and kind in ("missing", "string_too_short"):
        return "data is missing: name a folder with a folder of images for each class, as in data=photos"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "entry":  # of a list, whose entry says itself what is wrong
        return f"{key}: {message}"
    if kind == "value_error":
        # What is said of a part, given as keys and values, begins with the key that it is about.
        joint = "." if isinstance(given, dict) else ": "
        return joint.join(part for part in (key, message.removeprefix("Value error, ")) if part)
    hint, expected = "", []
    for error in errors:
        if error["type"] == "literal_error":
            choices = str(error["ctx"]["expected"])
            expected.append(choices)
            hint = hint or nearest(str(given), choices.replace("'", "").replace(" or ", ", ").split(", "))
        else:
            text = str(error["msg"]).removeprefix("Input should be ").removeprefix("Input should ")
            expected.append(_EXPECTED.get(error["type"], text))
    return f"{key}: expected {' or '.join(expected)}, got {given!r}{hint}"


def as_texts(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return keyword settings as the command line has them, so that one reader says what is wrong with them."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping) and all(isinstance(name, str) and name.isidentifier() for name in value):
            found += as_texts(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str | Path) else json.dumps(value, ensure_ascii=False, default=str)
            found.append(f"{prefix}{key}={text}")
    return found
