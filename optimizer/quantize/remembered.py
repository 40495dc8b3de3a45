"""What was found out about a float model on its calibration samples, for whoever quantizes it again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from optimizer.quantize.statistics import Statistics


@dataclasses.dataclass
class Remembered:
    """Nothing at first. Whoever shares one must quantize the same model on the same samples."""

    found: Statistics | None = None

    def statistics(self, gather: Callable[[], Statistics]) -> Statistics:
        """The statistics of the samples, gathered by the first who asks."""
        if self.found is None:
            self.found = gather()
        return self.found

    @functools.cached_property
    def scaled(self) -> Remembered:
        """The same of the model with its channels scaled, which is always the same one."""
        return Remembered()
