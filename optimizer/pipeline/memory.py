"""What several runs of `quantize` or `prune` on the same model and samples have in common, found out once.

A search makes many models of one: their steps differ, but what calibration has seen of the float model does not.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable

from optimizer.pipeline.common import Progress, Subject
from optimizer.pipeline.pruning import Calibration
from optimizer.quantize.remembered import Remembered
from optimizer.recipe import Prune, Quantize, Run

_MOST = 3
"""Models whose statistics for quantization are kept. Those for pruning are large: of one model only."""


class Memory:
    """Statistics by model and samples; those used the longest ago go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Remembered] = OrderedDict()
        self._pruning: tuple[Hashable, Calibration] | None = None

    def calibration(self, about: Subject, step: Prune, run: Run, progress: Progress) -> Calibration:
        """The calibration for pruning this model by `step`, with what earlier ones have measured."""
        key = (_content(about), run, step.criterion, step.repair)
        if self._pruning is None or self._pruning[0] != key:
            self._pruning = key, Calibration(about, step, run, progress)
        found = self._pruning[1]
        found.about, found.step, found.progress = about, step, progress
        return found

    def of(self, about: Subject, step: Quantize, run: Run) -> Remembered:
        """What is known already of this model calibrated so; an empty record for a new one."""
        key = (
            _content(about),
            run,
            step.inputs,
            step.outputs,
            step.mean,
            step.std,
            step.augment,
            step.only,
            step.exclude,
        )
        found = self._kept.setdefault(key, Remembered())
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return found


def _content(about: Subject) -> bytes:
    return hashlib.sha256(about.path.read_bytes()).digest()
