"""Where the values of a trial come from: a guess while there are some, then Optuna's tree-structured Parzen estimator.

A trial's values depend on the seed, on its place among the trials and on what was told before, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimizer.tune.space import Choice, Row, Value


def sampler(seed: int, place: int, guesses: Sequence[Mapping[str, Value]]) -> Any:
    """What answers for the trial at `place`."""
    from optuna.samplers import TPESampler

    if place < len(guesses):
        return _fixed(guesses[place])
    # Without `constant_liar`, which reads all trials for every parameter; different seeds keep workers apart too.
    return TPESampler(seed=(seed * 1_000_003 + place) % 2**32, constant_liar=False)


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
