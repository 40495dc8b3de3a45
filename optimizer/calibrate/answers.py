"""What a model answers: the classes it scores highest, or the ids it puts out.

The *scores* are the first output of this kind, judged on the first sample: real-valued, with at least 2 entries along
the last axis which are probabilities or their logarithms, or an output of two axes whose rows are not of length 1 (as
those of normalized embeddings are). The answers are the arg-max over the last axis, one per row. Where the metric or
the labels ask for scores and none look like them, the first real output with 2 or more entries there has to do.

A model without any real output answers with all its elements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimizer.errors import DataError
from optimizer.model.ports import Array

_TOLERANCE = 1e-3


class Answers:
    """Counts of equal and of right answers of two models, sample by sample."""

    def __init__(self, labels: Array | None, wanted: bool = False) -> None:
        """`labels` have the samples on their first axis; `wanted` says that scores are asked for."""
        whole = labels is not None and labels.dtype.kind in "iu"
        self.labels = labels if whole else None
        self.wanted = wanted or whole
        self.samples = 0
        self._equal = 0
        self.given = 0
        self._right = np.zeros(2)
        self._scores: int | None = None

    @property
    def agreement(self) -> float | None:
        """Share of equal answers; None where the outputs hold none."""
        return self._equal / self.given if self.given else None

    @property
    def top1(self) -> tuple[float, float] | None:
        """Share of right answers of the first and the second model; None where there is nothing to judge them by."""
        if self.labels is None or self._scores is None:
            return None
        first, second = self._right / self.samples
        return float(first), float(second)

    def update(self, one: Sequence[Array], other: Sequence[Array]) -> None:
        """Fold in both models' outputs for the next sample."""
        if not self.samples:
            self._scores = scores_output(one, self.wanted)
        answers = [_answers(outputs, self._scores) for outputs in (one, other)]
        if answers[0].shape != answers[1].shape:
            raise DataError(f"{answers[0].size} and {answers[1].size} answers for one sample cannot be compared")
        self._equal += int((answers[0] == answers[1]).sum())
        self.given += answers[0].size
        self._judge(answers)
        self.samples += 1

    def _judge(self, answers: Sequence[Array]) -> None:
        if self.labels is None or self._scores is None:
            return
        label = self.labels[self.samples].ravel()
        if label.size != answers[0].size:
            self.labels = None
            return
        self._right += [float((answer == label).mean()) for answer in answers]


def scores_output(outputs: Sequence[Array], wanted: bool = False) -> int | None:
    """The position of the output that holds class scores, or None; `wanted` accepts any that could."""
    real = [i for i, output in enumerate(outputs) if is_real(output) and output.ndim and output.shape[-1] > 1]
    found = next((i for i in real if _looks_like_scores(outputs[i])), None)
    return real[0] if found is None and wanted and real else found


def is_real(array: Array) -> bool:
    """Whether an array holds quantities rather than ids."""
    return bool(np.issubdtype(array.dtype, np.floating))


def _answers(outputs: Sequence[Array], scores: int | None) -> Array:
    if scores is not None:
        chosen: Array = outputs[scores].argmax(-1).ravel()
        return chosen
    if any(is_real(output) for output in outputs):
        return np.zeros(0)
    return np.concatenate([output.ravel() for output in outputs])


def _looks_like_scores(output: Array) -> bool:
    if not output.size:
        return False
    rows = output.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if _sum_to_one(rows) or (rows.max() <= 0 and _sum_to_one(np.exp(rows))):
            return True
        return output.ndim == 2 and not np.allclose(np.linalg.norm(rows, axis=-1), 1, atol=_TOLERANCE)


def _sum_to_one(rows: Array) -> bool:
    return bool(rows.min() >= 0 and np.allclose(rows.sum(-1), 1, atol=_TOLERANCE))
