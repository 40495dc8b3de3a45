"""What several runs of `quantize` on the same model and samples have in common, found out once.

A search makes many models of one: their steps differ, but what calibration has seen of the float model does not.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable

from optimizer.pipeline.common import Subject
from optimizer.quantize.remembered import Remembered
from optimizer.recipe import Quantize, Run

_MOST = 3
"""Models whose statistics are kept."""


class Memory:
    """Statistics by model and samples; those used the longest ago go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Remembered] = OrderedDict()

    def of(self, about: Subject, step: Quantize, run: Run) -> Remembered:
        """What is known already of this model calibrated so; an empty record for a new one."""
        content = hashlib.sha256(about.path.read_bytes()).digest()
        key = (content, run, step.inputs, step.outputs, step.mean, step.std, step.augment, step.only, step.exclude)
        found = self._kept.setdefault(key, Remembered())
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return found
