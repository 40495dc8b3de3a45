"""The search space as data: one row a parameter, with its values and the condition under which it is there.

The first row is `steps`: which steps the recipe has, in their order. Every other row is named as the field that it
sets, `prune.macs`, and is asked for only if its step is there and the parameters in `when` have one of the values
named; so every set of values is one recipe, and no value is asked for that changes nothing. Fields without a row keep
their defaults, but for `measure`: nothing is timed inside a step, so that the recipe alone decides the model's bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from optimizer.recipe import Finetune, Prune, Quantize, Recipe, Step

Value: TypeAlias = "str | float | int | bool | None"
Params: TypeAlias = Mapping[str, Value]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values, without an order."""

    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class Span:
    """A number between two; in steps, or evenly by its logarithm."""

    low: float
    high: float
    step: float | None = None
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """A parameter. `when` maps parameters to the values one of which each must have."""

    name: str
    values: Choice | Span
    when: Mapping[str, tuple[Value, ...]] = dataclasses.field(default_factory=dict)

    def applies(self, params: Params) -> bool:
        """Whether the parameter is there, given those of the rows above."""
        if self.name != STEPS and self.name.partition(".")[0] not in _names(params):
            return False
        return all(params.get(name) in allowed for name, allowed in self.when.items())


STEPS = "steps"
TIMED = "auto"
"""The value of `quantize.mode` for which it times."""
_INT8: Mapping[str, tuple[Value, ...]] = {"quantize.mode": (TIMED, "static")}
_CUT_BACK: Mapping[str, tuple[Value, ...]] = {"quantize.mode": (TIMED, "static", "dynamic")}

SPACE: tuple[Row, ...] = (
    Row(STEPS, Choice(("quantize", "prune", "prune,quantize", "prune,finetune", "prune,finetune,quantize"))),
    Row("prune.macs", Span(0.3, 0.99, 0.01)),
    Row("prune.scope", Choice(("layer", "global"))),
    Row("prune.criterion", Choice(("obs", "wanda", "magnitude"))),
    Row("prune.granularity", Choice(("channel,head", "channel,head,layer"))),
    Row("finetune.epochs", Choice((5, 15, 40))),
    Row("finetune.lr", Span(1e-4, 3e-2, log=True)),
    Row("finetune.batch", Choice((8, 16, 32))),
    Row("finetune.optimizer", Choice(("adamw", "sgd"))),
    Row("finetune.temperature", Choice((1.0, 2.0, 4.0))),
    Row("finetune.features", Choice((0.0, 2.5))),
    Row("finetune.augment", Choice(("none", "auto"))),
    Row("quantize.mode", Choice((TIMED, "static", "dynamic", "weights"))),
    Row("quantize.calibration", Choice(("mse", "minmax", "percentile", "entropy")), _INT8),
    Row("quantize.recover", Choice(("none", "bias", "full")), _INT8),
    Row("quantize.per_tensor", Choice((False, True)), _INT8),
    Row("quantize.everywhere", Choice((False, True)), {"quantize.mode": ("static",)}),
    Row("quantize.augment", Choice((None, "auto")), _INT8),
    # The drop up to which nothing goes back to float, the worst bargains first: the share of int8 in one number.
    Row("quantize.max_drop", Choice((None, 0.002, 0.005, 0.02, 0.05, 1.0)), _CUT_BACK),
)

KINDS: Mapping[str, type[Step]] = {"prune": Prune, "finetune": Finetune, "quantize": Quantize}


def space(*, train: bool, timed: bool) -> tuple[Row, ...]:
    """The rows of a search that may train or not, and time or not."""
    rows = [row for row in SPACE if train or not row.name.startswith("finetune")]
    return tuple(_allowed(row, train, timed) for row in rows)


def _allowed(row: Row, train: bool, timed: bool) -> Row:
    """The row without the values that need what is not allowed."""
    if not isinstance(row.values, Choice):
        return row
    untimed = {TIMED} if row.name == "quantize.mode" and not timed else set()
    kept = [value for value in row.values.values if value not in untimed]
    if row.name == STEPS and not train:
        kept = [value for value in kept if "finetune" not in str(value)]
    return dataclasses.replace(row, values=Choice(tuple(kept)))


def ask(rows: Sequence[Row], suggest: Callable[[Row], Value]) -> dict[str, Value]:
    """Values of all rows that apply, each as `suggest` says."""
    params: dict[str, Value] = {}
    for row in rows:
        if row.applies(params):
            params[row.name] = suggest(row)
    return params


def recipe(params: Params) -> Recipe:
    """The steps that `params` stand for."""
    return tuple(_step(name, params) for name in _names(params))


def _names(params: Params) -> list[str]:
    return str(params.get(STEPS, "")).split(",")


def _step(name: str, params: Params) -> Step:
    kind = KINDS[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    given = {key.partition(".")[2]: value for key, value in params.items() if key.startswith(f"{name}.")}
    chosen: dict[str, object] = {key: _typed(value, fields[key].default) for key, value in given.items()}
    if "measure" in fields:
        chosen["measure"] = chosen.get("mode") == TIMED
    return kind(**chosen)  # type: ignore[arg-type]


def _typed(value: Value, default: object) -> object:
    """Tuples are texts with commas in the space, since a storage keeps no tuples."""
    return tuple(str(value).split(",")) if isinstance(default, tuple) else value
