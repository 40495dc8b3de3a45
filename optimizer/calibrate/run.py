"""The calibration run: a float model runs over samples while observers watch some of its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import onnx_ir as ir

from optimizer.model.ports import Array, Feed
from optimizer.runtime.session import Options, Session, open_session


class Observer(Protocol):
    """Anything that folds in one batch at a time."""

    def update(self, batch: Array, /) -> None: ...


def observe(
    model: ir.Model,
    feeds: Iterable[Feed],
    observers: Mapping[str, Sequence[Observer]],
    *,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> int:
    """Run `model` over `feeds` and show each named value to its observers; returns the number of feeds.

    Graph inputs may be watched too. Only one feed's values are alive at a time. `tick` is called after each feed.
    """
    session = watching(model, observers, threads=threads)
    names = [name for name in observers if name in session.outputs]
    seen = 0
    for feed in feeds:
        for name, array in values(session, feed, names, observers):
            for observer in observers[name]:
                observer.update(array)
        seen += 1
        tick()
    return seen


def watching(model: ir.Model, names: Iterable[str], *, threads: int = 1) -> Session:
    """A session of `model` whose outputs are the model's own and the values called `names`."""
    copy = model.clone()
    have = {value.name for value in (*copy.graph.inputs, *copy.graph.outputs)}
    wanted = set(names) - have
    for node in copy.graph:
        copy.graph.outputs.extend(value for value in node.outputs if value.name in wanted)
    return open_session(copy, Options(threads=threads))


def values(session: Session, feed: Feed, names: Sequence[str], inputs: Iterable[str]) -> Iterator[tuple[str, Array]]:
    """The values called `names` that one run produces, then those graph inputs that are among `inputs`."""
    yield from zip(names, session.run(feed, names), strict=True) if names else ()
    yield from ((name, feed[name]) for name in inputs if name in feed)
