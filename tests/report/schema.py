"""Just enough of JSON Schema to check a document: type, properties, required, items, enum, anyOf, $ref to $defs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "$") -> Iterator[str]:
    """Every place where `value` is not what `schema` says."""
    if "$ref" in schema:
        yield from violations(value, root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root, path)
        return
    if "anyOf" in schema and all(list(violations(value, option, root, path)) for option in schema["anyOf"]):
        yield f"{path} fits none of the options"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path} is {value!r}, not one of {schema['enum']}"
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{path} is {type(value).__name__}, not {schema['type']}"
        return
    if isinstance(value, dict):
        yield from (f"{path} lacks {name}" for name in schema.get("required", ()) if name not in value)
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False:
            yield from (f"{path}.{name} is unknown" for name in value if name not in known)
        for name in value.keys() & known.keys():
            yield from violations(value[name], known[name], root, f"{path}.{name}")
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from violations(item, schema["items"], root, f"{path}[{number}]")


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
