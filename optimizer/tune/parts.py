"""Who sees which samples. The steps of a recipe never see those that are held back from them (`Run.held_back`); of
these one half chooses among recipes, and the other, which no choice depends on, has the last word on the bound.

    samples = for the steps (they hold a part of these back for themselves) + choosing + final
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from optimizer.data.samples import Samples
from optimizer.errors import DataError
from optimizer.tune.settings import FEWEST, HELD_BACK

_HASHED = 64


@dataclasses.dataclass(frozen=True)
class Parts:
    """The samples that recipes are chosen by, and those that the choice is judged by."""

    choosing: Samples
    final: Samples


def parts(samples: Samples, seed: int) -> Parts:
    """The parts of all `samples`. Raises `DataError` where there are too few."""
    if len(samples) < FEWEST:
        raise DataError(
            f"{samples.source}: {len(samples)} samples are too few to search with, since some must be held back: "
            f"give at least {FEWEST}"
        )
    held, _ = samples.split(HELD_BACK, seed)
    return Parts(*held.split(0.5, seed))


def fingerprint(samples: Samples) -> str:
    """A hash of some samples from all over, of the labels and of how many there are."""
    found = hashlib.sha256(str(len(samples)).encode())
    for position in sorted({round(at) for at in np.linspace(0, len(samples) - 1, _HASHED)}):
        for name, array in sorted(samples[position].items()):
            found.update(f"{name}{array.dtype}{array.shape}".encode())
            found.update(
                repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()
            )
    if samples.labels is not None:
        found.update(np.ascontiguousarray(samples.labels).tobytes())
    return found.hexdigest()[:16]
