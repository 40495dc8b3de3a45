"""Consumers of two models met level by level, from the inputs on: what each reads in the original and in the new model.

A level is given the moments of what it reads while all levels before it have their new constants, so errors do not add
up. Both models run up to that level only. Every fourth sample is kept for judging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx_ir as ir

from optimizer.calibrate.lstsq import Pairs
from optimizer.calibrate.run import watching
from optimizer.model.passes.dead import remove_unused
from optimizer.model.ports import Array, Feed
from optimizer.prune.consumers import Consumer, levels
from optimizer.prune.remove import replace
from optimizer.runtime.session import Options, Session, open_session

_HELD = 4
"""Every fourth sample is not fitted to."""

Feeds = Callable[[], Iterable[Feed]]
"""Starts over each time."""
Mending = Callable[[Consumer, Pairs, Pairs], Mapping[str, Array]]
"""New constants of one consumer, from moments to fit to and moments to judge by."""


def forward(
    found: Sequence[Consumer],
    reference: ir.Model,
    working: ir.Model,
    feeds: Feeds,
    mending: Mending,
    *,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> dict[str, Array]:
    """All new constants; they are put into `working` level by level, and `after` is called each time.

    `reference` has the same value names.
    """
    constants: dict[str, Array] = {}
    for level in levels(list(found)):
        seen = _gather(level, reference, working, feeds, threads)
        for one, pairs in zip(level, seen, strict=True):
            new = mending(one, *pairs)
            constants |= new
            replace(working.graph, new)
        after()
        tick()
    return constants


def _gather(
    chosen: Sequence[Consumer], reference: ir.Model, working: ir.Model, feeds: Feeds, threads: int
) -> list[tuple[Pairs, Pairs]]:
    """Moments for fitting and for judging of what each consumer reads, in both models."""
    seen = [(Pairs(one.window), Pairs(one.window)) for one in chosen]
    names = list(dict.fromkeys(one.given.name or "" for one in chosen))
    sessions = [_up_to(model, names, threads) for model in (reference, working)]
    for number, feed in enumerate(feeds()):
        inner = [name for name in names if name in sessions[0].outputs]
        runs = [dict(zip(inner, session.run(feed, inner), strict=True)) if inner else {} for session in sessions]
        for one, pairs in zip(chosen, seen, strict=True):
            name = one.given.name or ""
            x, y = (run.get(name, feed.get(name)) for run in runs)
            if x is not None and y is not None:
                pairs[number % _HELD == _HELD - 1].update(x, y)
    return seen


def _up_to(model: ir.Model, names: Sequence[str], threads: int) -> Session:
    """A session of `model` that computes the named values and nothing behind them."""
    copy = model.clone()
    values = {value.name: value for node in copy.graph for value in node.outputs}
    inner = [values[name] for name in names if name in values]
    if not inner:
        return watching(model, (), threads=threads)
    copy.graph.outputs[:] = inner
    remove_unused(copy)
    return open_session(copy, Options(threads=threads))
