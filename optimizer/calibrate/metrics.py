"""How well a candidate's answers keep to the baseline's: one pass over the samples, both models on each in turn.

| metric      | before                        | after                           | drop            | needs              |
|-------------|-------------------------------|---------------------------------|-----------------|--------------------|
| top1        | share of right answers        | the same of the candidate       | before - after  | labels and answers |
| agreement   | 1                             | share of equal answers          | before - after  | answers            |
| cosine      | 1                             | mean cosine                     | before - after  |                    |
| sqnr        | inf                           | SQNR in dB                      | 10^(-after/20)  |                    |
| max_error   | 0                             | largest absolute difference     | after           |                    |
| MODULE:FUNC | FUNC of the baseline's output | the same of the candidate       | before - after  | what FUNC needs    |

The drop of sqnr is the noise as a share of the signal (amplitudes). FUNC(outputs, labels) gets a list with one entry
per sample, each the list of that run's outputs in graph order, and the labels (or None), and returns a float, higher
is better. Only for FUNC are outputs kept; all else is running sums (`distance`, `answers`).

Without a choice: top1 where it can be had, else agreement where it can be had, else cosine. Of several outputs the
worst SQNR and the worst cosine count; integer and boolean outputs are ids and no quantities, and take no part in them.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from optimizer.calibrate.answers import Answers, is_real
from optimizer.calibrate.distance import Distance
from optimizer.calibrate.variety import Variety
from optimizer.data.convert import OUTPUT_KEY, coded
from optimizer.data.samples import Samples
from optimizer.errors import ConfigError, DataError
from optimizer.model.ports import Array, Feed
from optimizer.report.records import Accuracy
from optimizer.runtime.session import Session

Outputs: TypeAlias = list[Array]
Metric: TypeAlias = Callable[[list[Outputs], "Array | None"], float]
Figures: TypeAlias = tuple[float, float, float]
"""Before, after, drop."""


def compare_outputs(
    reference: Session,
    candidate: Session,
    reference_samples: Samples,
    candidate_samples: Samples,
    metric: str | None = None,
    *,
    tick: Callable[[], None] = lambda: None,
) -> Accuracy:
    """Run both models over their samples (the same ones, as each model takes them) and compare the answers.

    Outputs are matched by name, or by position where no name fits. `tick` is called after each sample. Raises
    `ConfigError` for a metric that is unknown or does not suit the model or the data, and `DataError` for outputs that
    cannot be compared.
    """
    function = own_function(metric)
    names = matching_outputs(reference, candidate)
    found = _Comparison(Answers(reference_samples.labels, metric in ("top1", "agreement")), function is not None)
    for one, other in zip(reference_samples, candidate_samples, strict=True):
        found.update(
            _answers(reference, one, [own for own, _ in names]), _answers(candidate, other, [its for _, its in names])
        )
        tick()
    if not found.answers.samples:
        raise DataError(f"{reference_samples.source}: no samples to compare the models on; give at least 1")
    if metric is not None and function is not None:
        before, after = _graded(metric, function, found.kept, reference_samples.labels)
        return found.record(metric, before, after, before - after, reference_samples.synthetic)
    name = metric or found.usual_metric()
    return found.record(name, *_FIGURES[name](found), reference_samples.synthetic)


def _answers(session: Session, feed: Feed, names: Sequence[str]) -> Outputs:
    """The outputs called `names`, those that are coded as integers decoded."""
    how = coded(session.metadata, OUTPUT_KEY)
    found = session.run(feed, names)
    return [how[name].decode(array) if name in how else array for name, array in zip(names, found, strict=True)]


def own_function(metric: str | None) -> Metric | None:
    """The function that the user's own metric is. Raises `ConfigError` for a metric that there is not."""
    if metric and ":" not in metric and metric not in _FIGURES:
        raise ConfigError(f"unknown metric {metric!r}: choose {', '.join(_FIGURES)} or MODULE:FUNC")
    return custom(metric) if metric and ":" in metric else None


def custom(name: str) -> Metric:
    """The metric function MODULE:FUNC, looked up as `python -m` would. Raises `ConfigError`."""
    module, _, attribute = name.partition(":")
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise ConfigError(f"the metric {name!r} cannot be imported: {error}") from error
    if not callable(function):
        raise ConfigError(f"the metric {name!r} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def matching_outputs(reference: Session, candidate: Session) -> list[tuple[str, str]]:
    """Which output of `candidate` answers to which of `reference`."""
    if set(reference.outputs) <= set(candidate.outputs):
        return [(name, name) for name in reference.outputs]
    if len(reference.outputs) != len(candidate.outputs):
        raise DataError(
            f"the models cannot be compared: their outputs are {', '.join(reference.outputs)} "
            f"and {', '.join(candidate.outputs)}"
        )
    return list(zip(reference.outputs, candidate.outputs, strict=True))


@dataclasses.dataclass
class _Comparison:
    answers: Answers
    keep: bool
    distances: dict[int, Distance] = dataclasses.field(default_factory=dict)
    variety: Variety = dataclasses.field(default_factory=Variety)
    kept: tuple[list[Outputs], list[Outputs]] = dataclasses.field(default_factory=lambda: ([], []))

    def update(self, one: Outputs, other: Outputs) -> None:
        """Fold in one sample; outputs of sizes of their own are only for a function of the caller's to judge."""
        self.variety.update(one)
        like = [output.shape == other[i].shape for i, output in enumerate(one)]
        if not self.keep or all(like):
            self.answers.update(one, other)
        for i, output in enumerate(one):
            if is_real(output) and (like[i] or not self.keep):
                self.distances.setdefault(i, Distance()).update(output, other[i])
        if self.keep:
            self.kept[0].append(one)
            self.kept[1].append(other)

    @property
    def sqnr_db(self) -> float:
        return min((distance.sqnr_db for distance in self.distances.values()), default=math.inf)

    @property
    def cosine(self) -> float:
        return min((distance.cosine for distance in self.distances.values()), default=1.0)

    @property
    def max_error(self) -> float:
        return max((distance.max_error for distance in self.distances.values()), default=0.0)

    def usual_metric(self) -> str:
        if self.answers.top1 is not None:
            return "top1"
        return "cosine" if self.answers.agreement is None else "agreement"

    def record(self, metric: str, before: float, after: float, drop: float, synthetic: bool) -> Accuracy:
        return Accuracy(
            metric=metric,
            before=before,
            after=after,
            drop=drop,
            agreement=self.answers.agreement,
            sqnr_db=self.sqnr_db,
            cosine=self.cosine,
            max_error=self.max_error,
            samples=self.answers.samples,
            synthetic=synthetic,
            answers=self.answers.given,
            vacuous=self.variety.lacking,
            quantities=bool(self.distances),
        )


def _top1(found: _Comparison) -> Figures:
    if found.answers.top1 is None:
        raise ConfigError(
            "the metric top1 needs whole-numbered labels, one per answer: add labels to --data, "
            "or choose another --metric (agreement, cosine, sqnr)"
        )
    before, after = found.answers.top1
    return before, after, before - after


def _agreement(found: _Comparison) -> Figures:
    if found.answers.agreement is None:
        raise ConfigError("the metric agreement needs class scores, which no output has: choose cosine or sqnr")
    return 1.0, found.answers.agreement, 1 - found.answers.agreement


def _cosine(found: _Comparison) -> Figures:
    _need_quantities(found, "cosine")
    return 1.0, found.cosine, 1 - found.cosine


def _sqnr(found: _Comparison) -> Figures:
    _need_quantities(found, "sqnr")
    return math.inf, found.sqnr_db, 10 ** (-found.sqnr_db / 20)


def _max_error(found: _Comparison) -> Figures:
    _need_quantities(found, "max_error")
    return 0.0, found.max_error, found.max_error


def _need_quantities(found: _Comparison, metric: str) -> None:
    if not found.distances:
        raise ConfigError(f"the metric {metric} needs an output of real numbers, which this model lacks: use agreement")


_FIGURES: dict[str, Callable[[_Comparison], Figures]] = {
    "top1": _top1,
    "agreement": _agreement,
    "cosine": _cosine,
    "sqnr": _sqnr,
    "max_error": _max_error,
}


def _graded(name: str, function: Metric, outputs: Sequence[list[Outputs]], labels: Array | None) -> tuple[float, float]:
    found = [function(own, labels) for own in outputs]
    try:
        return float(found[0]), float(found[1])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the metric {name!r} must return a number, not {found[0]!r}") from error
