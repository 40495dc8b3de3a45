"""Whether a model's outputs depend on its samples at all: where they do not, equal answers prove nothing.

Cases that prove nothing: every real output of every sample is NaN or infinite; all outputs of all samples (two or more)
are the same. Noise does that to a model that looks for something in its input, such as the pitch of a voice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from optimizer.model.ports import Array


class Variety:
    """What was seen of a model's outputs, in memory that does not grow."""

    def __init__(self) -> None:
        self.samples = 0
        self._finite = False
        self._first = b""
        self._varies = False

    def update(self, outputs: Sequence[Array]) -> None:
        """Fold in the outputs for the next sample."""
        self._finite |= any(bool(np.isfinite(output).any()) for output in outputs if output.dtype.kind in "fiub")
        seen = hashlib.sha256()
        for output in outputs:
            seen.update(repr((output.shape, output.dtype.str)).encode())
            seen.update(np.ascontiguousarray(output).tobytes())
        self._varies |= self.samples > 0 and seen.digest() != self._first
        self._first = self._first or seen.digest()
        self.samples += 1

    @property
    def lacking(self) -> str:
        """Why equal answers prove nothing; empty where they do."""
        if not self._finite:
            return "the original gives no finite number for any sample"
        return "" if self._varies or self.samples < 2 else "the original gives the same outputs for every sample"
