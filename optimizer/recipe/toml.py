"""Recipes as TOML: an array of tables, one a step; `do` names the step and the other keys are its fields.

    [[steps]]
    do = "prune"
    macs = 0.5

    [[steps]]
    do = "bench"
    fail-if = ["latency > 0.8x", "drop > 1%"]

`parse(text(recipe)) == recipe`, and fields that have their default are not written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from optimizer.errors import ConfigError
from optimizer.recipe import table
from optimizer.recipe.steps import Bench, Finetune, Prune, Quantize

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Step: TypeAlias = Quantize | Prune | Finetune | Bench
Recipe: TypeAlias = tuple[Step, ...]

STEPS: Mapping[str, type[Step]] = {"quantize": Quantize, "prune": Prune, "finetune": Finetune, "bench": Bench}
_NAMES = {kind: name for name, kind in STEPS.items()}


def name(step: Step) -> str:
    """The step's name: that of its command."""
    return _NAMES[type(step)]


def parse(source: str, where: str = "the recipe") -> Recipe:
    """The recipe that `source` writes; keys beside `steps` are refused. Raises `ConfigError` in one line."""
    document = read(source, where)
    table.check_keys(document, ["steps"], where)
    return steps(document.get("steps", []), where)


def text(recipe: Recipe) -> str:
    """The recipe as TOML."""
    return "\n".join(_step(step) for step in recipe)


def read(source: str, where: str) -> dict[str, Any]:
    """A TOML document. Raises `ConfigError`."""
    try:
        found: dict[str, Any] = tomllib.loads(source)
        return found
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{where}: not TOML: {str(error).splitlines()[0]}") from error


def steps(found: Any, where: str) -> Recipe:
    """The steps of a document's array of tables. Raises `ConfigError`."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ConfigError(f"{where}: steps must be tables, each under a [[steps]] of its own")
    return tuple(_parsed(one, f"{where}: step {number}") for number, one in enumerate(found, 1))


def _parsed(found: Mapping[str, Any], where: str) -> Step:
    kind = found.get("do")
    if not isinstance(kind, str) or kind not in STEPS:
        said = "has no 'do'" if kind is None else f"does {kind!r}, which is no step"
        raise ConfigError(f"{where} {said}; give do = one of {', '.join(STEPS)}")
    return table.record(STEPS[kind], {key: value for key, value in found.items() if key != "do"}, f"{where} ({kind})")


def _step(step: Step) -> str:
    lines = [f"{key} = {literal(value)}" for key, value in {"do": name(step), **table.plain(step)}.items()]
    return "\n".join(["[[steps]]", *lines, ""])


def literal(value: Any) -> str:
    """A value on one line of TOML, whose texts are those of JSON except that DEL is escaped."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list):
        return f"[{', '.join(literal(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{literal(key)} = {literal(one)}' for key, one in value.items())} }}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def numbered(recipe: Recipe) -> Sequence[tuple[str, Step]]:
    """Every step with what to call it, e.g. `step 2 (quantize)`."""
    return [(f"step {number} ({name(step)})", step) for number, step in enumerate(recipe, 1)]
