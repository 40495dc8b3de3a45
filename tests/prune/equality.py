"""The main oracle of the pruner: for the same choice, the removed and the masked model give the same outputs."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from optimizer.data.spec import open_samples
from optimizer.model import shapes
from optimizer.prune import groups, remove
from optimizer.prune.groups import Axes, Bools
from optimizer.runtime.session import Options, open_session


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Both models, what was dropped, and the largest difference relative to the masked model's largest output."""

    removed: ir.Model
    masked: ir.Model
    difference: float
    change: float
    share: float
    """Share of the parameters that is gone."""


def some_labels(axes: Axes, share: float, seed: int) -> Bools:
    """A random share of every group, as far as every axis keeps a position."""
    rng, dropped = np.random.default_rng(seed), axes.none()
    for group in axes.groups:
        dropped[rng.permutation(group.labels)[: int(len(group.labels) * share)]] = True
    gone = axes.gone(dropped)
    for layout in axes.layouts.values():
        for axis in layout or ():
            if gone[axis.labels].all():
                dropped[axes.sets.members(axis.labels[:1])[1]] = False
                gone = axes.gone(dropped)
    return dropped


def compare(model: ir.Model, share: float, seed: int = 0, lossy: bool = False) -> Outcome:
    """Drop a random share of every group of `model`, which is not changed, both ways."""
    shapes.infer(model)
    removed, masked = model.clone(), model.clone()
    axes = groups.analyse(removed, lossy=lossy)
    dropped = some_labels(axes, share, seed)
    remove.mask(axes, dropped, masked.graph)
    remove.remove(axes, dropped)
    sessions = [open_session(m, Options(level="basic")) for m in (model, removed, masked)]
    feed = open_samples(None, model, count=1, seed=seed, runs=sessions[0].accepts)[0]
    before, one, other = (session.run(feed) for session in sessions)
    left, total = (sum(v.const_value.size for v in m.graph.initializers.values()) for m in (removed, model))
    return Outcome(removed, masked, _distance(one, other), _distance(before, other), 1 - left / total)


def _distance(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    return max(_relative(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(some, others, strict=True))


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape and np.isfinite(a).all()
    return float(np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-30))
