"""A model run in pieces: each starts from the values that the one before it left, feed by feed.

What nodes deep in a model read is asked for again and again while constants in front of them change. To run from the
inputs each time costs the square of the depth. Here the values that nodes not yet run still read are kept, and the
next piece starts from them. Where they would take more than `BUDGET` bytes over all feeds (early in networks for
images), or are no plain tensors, what was kept before stays, and the next piece starts from there.

Constants may change between pieces, but only of nodes that none of the values asked for so far depends on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import onnx_ir as ir

from optimizer.model import bodies
from optimizer.model.ports import Array, Feed
from optimizer.runtime.session import Options, Session, open_session

BUDGET = 128 * 2**20
"""Bytes that one run in pieces keeps."""


class Feeds(Protocol):
    """Samples that can be read again and again."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Feed]: ...


def held(feeds: Feeds) -> Feeds:
    """`feeds` in memory, if they fit there."""
    found: list[Feed] = []
    for feed in feeds:
        if _bytes(feed) * len(feeds) > BUDGET:
            return feeds
        found.append(feed)
    return found


class Pieces:
    """One model on its way from the inputs to the outputs."""

    def __init__(self, model: ir.Model, feeds: Feeds, *, threads: int = 1) -> None:
        self.model, self.threads = model, threads
        self._feeds = feeds
        self._start = [value for value in model.graph.inputs if value.const_value is None]
        self._done: set[ir.Node] = set()
        self._reads = {node: list(bodies.read(node)) for node in model.graph}

    def run(self, names: Sequence[str]) -> Iterator[Mapping[str, Array]]:
        """The values called `names`, for each feed. The next piece starts from here once all feeds are through."""
        values = {value.name: value for node in self.model.graph for value in node.outputs}
        wanted = [values[name] for name in names if name in values]
        done = self._done | self._behind(wanted)
        live = self._live(done)
        plain = all(isinstance(value.type, ir.TensorType) for value in live)
        asked = dict.fromkeys([*wanted, *live] if plain else wanted)
        inner = [value.name or "" for value in asked if value not in self._start]
        session = self._session(inner)
        kept: list[Feed] | None = [] if plain else None
        for feed in self._feeds:
            found = {**feed, **(dict(zip(inner, session.run(feed, inner), strict=True)) if session else {})}
            kept = self._keeping(kept, {value.name or "": found[value.name or ""] for value in live} if plain else {})
            yield {name: found[name] for name in names if name in found}
        if kept is not None:
            self._feeds, self._start, self._done = kept, live, done

    def _keeping(self, kept: list[Feed] | None, feed: Feed) -> list[Feed] | None:
        """What is kept with one feed more; None as soon as it is to be seen that all will not fit."""
        if kept is None or _bytes(feed) * len(self._feeds) > BUDGET:
            return None
        kept.append(feed)
        return kept

    def _behind(self, wanted: Sequence[ir.Value]) -> set[ir.Node]:
        """The nodes that these values depend on, back to where the piece starts; those without inputs run anew."""
        found, stack = set[ir.Node](), [value for value in wanted if value not in self._start]
        while stack:
            node = stack.pop().producer()
            if node is not None and node not in found and node not in self._done and self._reads[node]:
                found.add(node)
                stack += [value for value in self._reads[node] if value not in self._start]
        return found

    def _live(self, done: set[ir.Node]) -> list[ir.Value]:
        """The values that are known when `done` has run and that other nodes read."""
        read = {value for node, given in self._reads.items() if node not in done for value in given}
        known = [*self._start, *(value for node in self.model.graph if node in done for value in node.outputs)]
        return [value for value in dict.fromkeys(known) if value in read]

    def _session(self, names: Sequence[str]) -> Session | None:
        if not names:
            return None
        start = [value.name or "" for value in self._start]
        graph = ir.convenience.extract(self.model.graph, start, names)
        functions = list(self.model.functions.values())
        piece = ir.Model(graph, ir_version=self.model.ir_version, functions=functions)
        return open_session(piece, Options(threads=self.threads))


def _bytes(feed: Feed) -> int:
    return sum(array.nbytes for array in feed.values())
