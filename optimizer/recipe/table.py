"""Frozen records as tables of TOML, and back: a field is a key, and the field's type says what its value may be.

=================  =============================================  =======================================
type               in TOML                                        refused
=================  =============================================  =======================================
bool, int, str     the same; a bool is no int                     everything else
float              a number, or a share such as "1%"              nan, and strings that are no share
Literal            one of its strings                             others, with the allowed ones
tuple              an array; of fixed length if the type's is     a string, a longer or a shorter one
pairs (str, int)   a table                                        everything else
Path, record       a string; a table                              everything else
T or None          as T; None is the key left out
=================  =============================================  =======================================

Keys may be written with hyphens, as on the command line, or with underscores. `values(kind, plain(record))` gives the
record's fields again.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from optimizer.errors import ConfigError
from optimizer.recipe.steps import share

T = TypeVar("T")

_PAIRS = tuple[tuple[str, int], ...]
_NOUNS = {bool: "true or false", int: "a whole number", str: "a text", float: "a number or a share such as '1%'"}


def record(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """The record that `table` writes. Raises `ConfigError`, which starts with `where`."""
    found = values(kind, table, where)
    try:
        return kind(**found)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def values(kind: type[Any], table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of `kind` that `table` sets. Raises `ConfigError`."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: _value(hints[name], value, where, key) for name, key, value in _known(table, names, where)}


def plain(found: Any) -> dict[str, Any]:
    """The fields of a record that differ from their defaults, as types of TOML under keys with hyphens."""
    fields = [field for field in dataclasses.fields(found) if getattr(found, field.name) != field.default]
    hints = typing.get_type_hints(type(found))
    return {f.name.replace("_", "-"): _plain(getattr(found, f.name), hints[f.name]) for f in fields}


def check_keys(table: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Raise `ConfigError`, with the nearest of `names`, if `table` holds a key that is none of them."""
    _known(table, list(names), where)


def _known(table: Mapping[str, Any], names: list[str], where: str) -> list[tuple[str, str, Any]]:
    found = [(key.replace("-", "_"), key, value) for key, value in table.items()]
    for name, key, _ in found:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.0)[0].replace("_", "-")
            raise ConfigError(f"{where}: unknown key {key!r}; the nearest there is {near!r}")
    if len({name for name, _, _ in found}) < len(found):
        raise ConfigError(f"{where}: a key is written both with a hyphen and with an underscore; keep one")
    return found


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _value(hint, value, where, key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return record(hint, _of(dict, value, where, key, "a table"), f"{where}: {key}")
    if hint == _PAIRS:
        table = _of(dict, value, where, key, "a table such as { batch = 8 }")
        return tuple((name, _value(int, size, where, f"{key}.{name}")) for name, size in table.items())
    if origin is tuple:
        return _array(arguments, _of(list, value, where, key, "an array"), where, key)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {key} is {value!r}; give one of {', '.join(arguments)}")
        return value
    if hint is float:
        return _float(value, where, key)
    return Path(_of(str, value, where, key, "a path")) if hint is Path else _of(hint, value, where, key, _NOUNS[hint])


def _array(kinds: tuple[Any, ...], value: list[Any], where: str, key: str) -> tuple[Any, ...]:
    if kinds[-1] is not Ellipsis and len(value) != len(kinds):
        raise ConfigError(f"{where}: {key} must have {len(kinds)} values, not {len(value)}")
    return tuple(_value(kinds[0], one, where, key) for one in value)


def _float(value: Any, where: str, key: str) -> float:
    if isinstance(value, str) and value.endswith("%"):
        value = share(value)
    number = float(value) if type(value) in (int, float) else math.nan
    if math.isnan(number):
        raise ConfigError(f"{where}: {key} must be {_NOUNS[float]}, not {value!r}")
    return number


def _of(kind: type[T], value: Any, where: str, key: str, noun: str) -> T:
    if type(value) is not kind:
        raise ConfigError(f"{where}: {key} must be {noun}, not {value!r}")
    return value


def _plain(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    if hint == _PAIRS:
        return dict(value)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
