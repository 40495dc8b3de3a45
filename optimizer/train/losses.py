"""How far the student's outputs are from the teacher's, per kind of output. All are 0 where the student equals it.

    kl        T^2 * KL(softmax(t / T) || softmax(s / T))           logits; for probabilities p, log p takes their place
    mse       mean (t - s)^2 / mean (t - mean t)^2                  anything real; 1 = as good as a constant
    cosine    1 - cos(t, s) over the last axis                      embeddings

T is the temperature (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015). The kind is read off the
teacher's own outputs: rows that are distributions, or their logarithms, are `kl`; rows of length one are `cosine`; a
plain matrix may be logits or a regression, which nothing but its values could tell apart, so it gets `kl` + `mse`: the
KL does not see a shift that all classes share, the MSE does. Everything else is `mse`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from optimizer.model.ports import Array
from optimizer.train.table import Tensor

Kind = Literal["kl", "mse", "cosine", "logits"]
Scores = Literal["logits", "probabilities", "logarithms"]
_TOLERANCE = 1e-3
_TINY = 1e-8


@dataclasses.dataclass(frozen=True)
class Output:
    """An output that is compared: its name in the teacher, the value in the student, and how."""

    teacher: str
    student: str
    kind: Kind
    scores: Scores
    spread: float
    """Variance of the teacher's values, the unit of the MSE."""


def scores_of(array: Array) -> Scores:
    """What the last axis of a real output holds, if it holds class scores at all."""
    rows = array.astype(np.float64)
    if rows.size and rows.min() >= 0 and np.allclose(rows.sum(-1), 1, atol=_TOLERANCE):
        return "probabilities"
    if rows.size and rows.max() <= 0 and np.allclose(np.exp(rows).sum(-1), 1, atol=_TOLERANCE):
        return "logarithms"
    return "logits"


def kind_of(array: Array) -> Kind:
    """The loss that suits an output of the teacher with values like `array`."""
    wide = array.ndim > 1 and array.shape[-1] > 1
    if wide and scores_of(array) != "logits":
        return "kl"
    if wide and np.allclose(np.linalg.norm(array.astype(np.float64), axis=-1), 1, atol=_TOLERANCE):
        return "cosine"
    return "logits" if array.ndim == 2 and wide else "mse"


def logarithms(torch: Any, values: Tensor, scores: Scores) -> Tensor:
    """Class scores of any form as logits."""
    return torch.log(values.clamp(min=_TINY)) if scores == "probabilities" else values


def distance(torch: Any, output: Output, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The loss of one output, averaged over its rows."""
    teacher = teacher.to(student.dtype)
    if output.kind == "cosine":
        return (1 - torch.nn.functional.cosine_similarity(student, teacher, dim=-1)).mean()
    if output.kind == "mse":
        return relative(torch, student, teacher, output.spread)
    logits = [logarithms(torch, values, output.scores) / temperature for values in (student, teacher)]
    own, wanted = (torch.log_softmax(rows, -1) for rows in logits)
    found = temperature**2 * (wanted.exp() * (wanted - own)).sum(-1).mean()
    return found if output.kind == "kl" else found + relative(torch, student, teacher, output.spread)


def relative(torch: Any, student: Tensor, teacher: Tensor, spread: float) -> Tensor:
    """Mean square error in units of the teacher's variance. Places where the teacher is not finite do not count."""
    live = torch.isfinite(teacher)
    error = torch.where(live, student - torch.where(live, teacher, 0.0), 0.0)
    return error.square().mean() / max(spread, _TINY)


def cross_entropy(torch: Any, output: Output, student: Tensor, labels: Tensor) -> Tensor:
    """Against labels: [N] class numbers for scores [N, ..., C] with one answer per row."""
    logits = logarithms(torch, student, output.scores)
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="none")
