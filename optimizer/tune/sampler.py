"""Where the values of a trial come from.

While there are guesses, these in their order. After them, in turn: the best so far with one thing changed, and what
Optuna's tree-structured Parzen estimator proposes. Either depends on the seed, on the trial's place among the trials,
on what was told before, and on nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optimizer.tune.guesses import BASE
from optimizer.tune.space import Choice, Params, Row, Span, Value, ask

_STEPS = (1, 2, 4, 8, 16)
"""Steps of a span by which it changes."""
_TRIES = 30


def sampler(
    seed: int,
    place: int,
    guesses: Sequence[Params],
    rows: Sequence[Row],
    best: Params | None,
    known: Collection[Params],
) -> Any:
    """What answers for the trial at `place`; `best` are the values of the best so far, and `known` those of all."""
    from optuna.samplers import TPESampler

    if place < len(guesses):
        return _fixed(guesses[place])
    own = (seed * 1_000_003 + place) % 2**32
    if best is not None and (place - len(guesses)) % 2 == 0:
        rng = random.Random(own)
        tried = (changed(best, rows, rng) for _ in range(_TRIES))
        return _fixed(next((one for one in tried if one not in known), changed(best, rows, rng)))
    # Without `constant_liar`, which reads all trials for every parameter; different seeds keep workers apart too.
    return TPESampler(seed=own, constant_liar=False)


def changed(best: Params, rows: Sequence[Row], rng: random.Random) -> dict[str, Value]:
    """The values `best` with one of them changed, and usual ones for what is there only now. Numbers change as often as
    all choices together: there is more to be found along them."""
    able = [row for row in rows if row.name in best and not _is_single(row)]
    spans = [row for row in able if isinstance(row.values, Span)]
    row = rng.choice(spans if spans and rng.random() < 0.5 else able)
    value = _other(row, best[row.name], rng)
    return ask(rows, lambda one: value if one is row else best.get(one.name, BASE[one.name]))


def _is_single(row: Row) -> bool:
    return isinstance(row.values, Choice) and len(row.values.values) == 1


def _other(row: Row, value: Value, rng: random.Random) -> Value:
    if isinstance(row.values, Choice):
        return rng.choice([other for other in row.values.values if other != value])
    return _near(row.values, float(value or 0), rng)


def _near(span: Span, value: float, rng: random.Random) -> float:
    if span.log or span.step is None:
        return min(max(value * rng.choice((0.3, 0.6, 1.7, 3.0)), span.low), span.high)
    moved = value + rng.choice((-1, 1)) * rng.choice(_STEPS) * span.step
    return round(min(max(moved, span.low), span.high), 6)


def suggest(trial: Any, row: Row) -> Value:
    """The sampler's value for a row."""
    if isinstance(row.values, Choice):
        chosen: Value = trial.suggest_categorical(row.name, row.values.values)
        return chosen
    number: float = trial.suggest_float(
        row.name, row.values.low, row.values.high, step=row.values.step, log=row.values.log
    )
    return round(number, 6) if row.values.step is not None else number


def _fixed(params: Mapping[str, Value]) -> Any:
    """A sampler that knows one answer."""
    from optuna.samplers import BaseSampler

    class Fixed(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Value:
            return params[param_name]

    return Fixed()
