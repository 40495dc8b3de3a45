"""Which groups cost the most accuracy for the time they save: the order in which they go back to float.

A *bundle* is a run of neighbouring groups (one group each in models of up to `BUNDLES` groups). Its error is the share
of noise in the outputs when it alone is in int8, its gain the milliseconds that this saves. Bundles are ordered by
error per gain, the worst bargain first: giving up a prefix of that order costs the least time for the accuracy won.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from optimizer.calibrate.selection import comparable
from optimizer.model.ports import Array, Feed
from optimizer.quantize.build import Static
from optimizer.quantize.candidate import Candidate
from optimizer.runtime.session import Options, Session, open_session

BUNDLES = 48
_LEAST_GAIN = 1e-3
"""Milliseconds below which a gain counts as this much."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Neighbouring groups, the noise they alone put into the outputs (share of power), and the milliseconds saved."""

    groups: tuple[str, ...]
    error: float
    gain: float


def bundles(
    static: Static,
    candidate: Candidate,
    costs: Mapping[str, tuple[float, float]],
    feeds: Sequence[Feed],
    tick: Callable[[], None] = lambda: None,
) -> list[Bundle]:
    """The int8 groups of `candidate` in bundles, the worst bargain first. `costs` are microseconds (float, int8)."""
    assert candidate.plan is not None
    names = [group.name for group in candidate.plan.groups]
    size = -(-len(names) // BUNDLES)
    original = open_session(comparable(static.model), Options(threads=static.threads))
    reference = [run(original, feed) for feed in feeds]
    found = []
    for start in range(0, len(names), max(size, 1)):
        own = tuple(names[start : start + size])
        session = open_session(comparable(static.alone(own, candidate)), Options(threads=static.threads))
        error = noise(reference, [run(session, feed) for feed in feeds])
        gain = sum(costs[name][0] - costs[name][1] for name in own if name in costs) / 1000
        found.append(Bundle(own, error, max(gain, _LEAST_GAIN)))
        tick()
    return sorted(found, key=lambda bundle: -bundle.error / bundle.gain)


def run(session: Session, feed: Feed) -> list[Array]:
    """The float outputs of one run."""
    return [array for array in session.run(feed) if array.dtype.kind == "f"]


def noise(reference: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float:
    """Power of the difference as a share of the reference's, the worst over outputs."""
    shares = []
    for own, other in zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True):
        power = sum(float(np.square(array, dtype=np.float64).sum()) for array in own)
        error = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in zip(own, other, strict=True))
        shares.append(error / max(power, 1e-30))
    return max(shares, default=0.0)
