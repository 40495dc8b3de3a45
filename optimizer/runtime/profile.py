"""Time per node, from the runtime's own profile (a Chrome trace), in a session that serves for nothing else.

Profiled runs are slower than others, the more so the smaller the nodes, so the figures say where the time goes and
not how long a run takes. Nodes are those of the runtime's optimized graph: a fused node bears the name it was given.

Each run of the model is one interval of the trace, and each execution of a node another inside it. A node that holds
a body (If, Loop, Scan) spans the nodes of the body, so its own time is its span less theirs. Executions of the same
node in one run (a loop) are added. A node's time is the mean over the typical runs, which are the middle half by the
sum of all nodes: so the times of all nodes add up to that of a typical run.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import json
import math
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from optimizer.model.ports import Feed
from optimizer.runtime.session import Options, Source, open_session

Event: TypeAlias = dict[str, Any]

_SUFFIX = "_kernel_time"


@dataclasses.dataclass(frozen=True)
class NodeTime:
    """Time of one node of the optimized graph in a typical run, in microseconds."""

    name: str
    op_type: str
    microseconds: float
    int8: bool = False
    """Whether it reads 8-bit integers."""


def profile(
    source: Source, feeds: Sequence[Feed], options: Options | None = None, near: float | None = None
) -> list[NodeTime]:
    """Where a model's time goes: one `NodeTime` per executed node, in order of execution, over one run per feed.

    The first feed is run once more before them, to warm up. `options.profile` is ignored: the trace goes to a
    temporary folder. The means are those of typical runs: the middle half, or, if a clock has told what a run
    takes (`near`, in microseconds), the quarter whose nodes take about that.
    """
    with tempfile.TemporaryDirectory(prefix="optimize-") as folder:
        traced = dataclasses.replace(options or Options(), profile=Path(folder) / "trace")
        session = open_session(source, traced)
        for feed in (feeds[0], *feeds):
            session.run(feed)
        events = json.loads(Path(session.raw.end_profiling()).read_text())
    return node_times(events, near)


def node_times(events: Iterable[Event], near: float | None = None) -> list[NodeTime]:
    """Node times from a trace's events; the first run in it is the warm-up and does not count."""
    listed = list(events)
    starts = sorted(event["ts"] for event in listed if event.get("cat") == "Session" and event["name"] == "model_run")
    counted = starts[1:]
    totals: dict[tuple[str, str, bool], list[float]] = collections.defaultdict(lambda: [0.0] * len(counted))
    for event, own in _own_times([event for event in listed if event.get("cat") == "Node"]):
        run = bisect.bisect_right(counted, event["ts"]) - 1
        if run >= 0:
            totals[_key(event)][run] += own
    typical = _typical([sum(runs) for runs in zip(*totals.values(), strict=True)], near)
    return [
        NodeTime(name, op, statistics.fmean(runs[run] for run in typical), int8)
        for (name, op, int8), runs in totals.items()
    ]


def _typical(sums: Sequence[float], near: float | None) -> list[int]:
    """The runs of the middle half, or the quarter nearest to `near`."""
    if near is not None:
        return sorted(range(len(sums)), key=lambda run: abs(sums[run] - near))[: math.ceil(len(sums) / 4)]
    aside = len(sums) // 4
    return sorted(range(len(sums)), key=sums.__getitem__)[aside : len(sums) - aside]


def _key(event: Event) -> tuple[str, str, bool]:
    types = {kind for value in event["args"].get("input_type_shape", ()) for kind in value}
    return event["name"].removesuffix(_SUFFIX), event["args"].get("op_name", ""), bool(types & {"int8", "uint8"})


def _own_times(nodes: Sequence[Event]) -> list[tuple[Event, float]]:
    """Nodes in order of their start, each with its duration less those of the nodes directly inside it."""
    # A body's nodes are written before the node that holds it: of two equal spans the later one is outside.
    order = sorted(range(len(nodes)), key=lambda i: (nodes[i]["ts"], -nodes[i]["dur"], -i))
    own = {i: float(nodes[i]["dur"]) for i in order}
    enclosing: list[int] = []
    for i in order:
        while enclosing and nodes[enclosing[-1]]["ts"] + nodes[enclosing[-1]]["dur"] <= nodes[i]["ts"]:
            enclosing.pop()
        if enclosing:
            own[enclosing[-1]] -= nodes[i]["dur"]
        enclosing.append(i)
    return [(nodes[i], own[i]) for i in order]
