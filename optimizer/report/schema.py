"""The JSON Schema of the document, derived from the records, so that neither can change without the other.

It is JSON Schema 2020-12 (json-schema.org) and describes what `--json` and `--report FILE.json` give. A figure that is
not finite, such as the SQNR of equal outputs, is null.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from optimizer.report import records

_PLAIN = {int: "integer", str: "string", bool: "boolean"}


def schema() -> dict[str, Any]:
    """The schema of `document.document`."""
    definitions: dict[str, Any] = {}
    result = _reference(records.Result, definitions)
    whole = definitions["Result"]
    whole["properties"]["schema_version"] = {"enum": [records.SCHEMA_VERSION]}
    whole["properties"]["candidates"] = {"type": "array", "items": result}
    whole["required"].append("schema_version")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What optimize found out",
        **result,
        "$defs": dict(sorted(definitions.items())),
    }


def _reference(record: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """A reference to the definition of a record, or of a `Change` of one kind of figure."""
    origin, arguments = typing.get_origin(record) or record, typing.get_args(record)
    name = origin.__name__ + "".join(f"_{argument.__name__}" for argument in arguments)
    if name not in definitions:
        definitions[name] = {}
        hints = typing.get_type_hints(origin)
        filled = dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=True))
        fields = {field.name: hints[field.name] for field in dataclasses.fields(origin)}
        definitions[name] = {
            "type": "object",
            "properties": {field: _of(filled.get(hint, hint), definitions) for field, hint in fields.items()},
            "required": list(fields),
        }
    return {"$ref": f"#/$defs/{name}"}


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(argument, definitions) for argument in arguments]}
    if dataclasses.is_dataclass(origin or hint):
        return _reference(hint, definitions)
    if hint is float:
        return {"anyOf": [{"type": "number"}, {"type": "null"}]}
    if hint is type(None):
        return {"type": "null"}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    return {"type": "object"} if origin is dict else {"type": _PLAIN[hint]}
