"""Consumers of two models met level by level, from the inputs on: what each reads in the original and in the new model.

A level is given the moments of what it reads while all levels before it have their new constants, so errors do not add
up. Both models run on from what the level before left (`calibrate.pieces`). Every fourth sample is kept for judging.

What a recurrent layer reads of its own states is taken from the original in both: those of a layer that is not yet
mended have run away from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from optimizer.calibrate.consumers import Consumer, levels, streams
from optimizer.calibrate.gram import enough
from optimizer.calibrate.lstsq import Pairs
from optimizer.calibrate.pieces import Feeds, Pieces, held
from optimizer.model.passes.edit import store_all
from optimizer.model.ports import Array

HELD = 4
"""Of so many samples the last is not fitted to."""

LEAST_ROWS = 8
"""Rows of data below which nothing is fitted."""

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
    first = held(feeds)
    runs = [Pieces(model, first, threads=threads) for model in (reference, working)]
    del first
    beside = {name: value.name or "" for name, value in streams(list(found)).items()}
    for level in levels(list(found)):
        seen = _gather(level, beside, len(feeds), *runs)
        for one, pairs in zip(level, seen, strict=True):
            new = mending(one, *pairs)
            constants |= new
            store_all(working.graph, new)
        after()
        tick()
    return constants


def _gather(
    chosen: Sequence[Consumer], beside: Mapping[str, str], batches: int, reference: Pieces, working: Pieces
) -> list[tuple[Pairs, Pairs]]:
    """Moments for fitting and for judging of what each consumer reads, in both models, and of what `beside` it, in the
    residual stream, is lost."""
    most = [enough(one.columns, batches) for one in chosen]
    seen = [(Pairs(one.window, rows), Pairs(one.window, rows)) for one, rows in zip(chosen, most, strict=True)]
    more = [beside[one.name] for one in chosen if one.name in beside]
    names = list(dict.fromkeys([*(one.given.name or "" for one in chosen), *more]))
    given = list(dict.fromkeys([*(one.given.name or "" for one in chosen if not one.recalls), *more]))
    for number, (was, now) in enumerate(zip(reference.run(names), working.run(given), strict=True)):
        for one, pairs in zip(chosen, seen, strict=True):
            x, y = (run.get(one.given.name or "") for run in (was, was if one.recalls else now))
            if x is not None and y is not None:
                stream = beside.get(one.name)
                lost = was[stream] - now[stream] if stream is not None else None
                pairs[number % HELD == HELD - 1].update(x, y, lost)
    return seen
