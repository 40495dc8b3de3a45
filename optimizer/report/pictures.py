"""Pictures of results as SVG text that takes its text colour from the page, so that it suits light and dark.

matplotlib draws text and lines in the marker colour `INK`, which becomes `currentColor`. Identifiers get a prefix for
each picture, since many stand in one page. Text stays text: it can be searched, and needs no font in the file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from optimizer.errors import MissingExtra
from optimizer.report.records import Result

BASELINE, CANDIDATE, BAD = "#8a94a6", "#2f80d0", "#d1603d"
INK = "#010203"
_WIDTH, _ROW = 5.2, 0.34
"""Inches. A figure of this width can still be read when a phone shrinks it to its screen."""
_MOST_OPS = 10
_VISIBLE = 0.01
"""Bars shorter than this share of the longest are not drawn one by one."""
_LONGEST = 32


class Picture(NamedTuple):
    """An inline SVG and what it shows, for those who cannot see it."""

    title: str
    alt: str
    svg: str


def pictures(result: Result, prefix: str) -> list[Picture]:
    """All pictures that the result has figures for. Raises `MissingExtra` without matplotlib."""
    drawn = [draw(result) for draw in (_ratios, _front, _distribution, _operators, _errors)]
    found = [picture for picture in drawn if picture is not None]
    return [
        Picture(title, alt, inline(figure, f"{prefix}-{number}")) for number, (title, alt, figure) in enumerate(found)
    ]


_Drawn = tuple[str, str, Any]


def _ratios(result: Result) -> _Drawn | None:
    """What is left of each figure of the baseline, in percent."""
    changes = {"size": result.size_bytes, "memory": result.memory_bytes, "MACs": result.macs, "load": result.load_ms}
    shares = {name: change.after / change.before for name, change in changes.items() if change and change.before}
    if result.latency_ms is not None:
        shares = {"latency": 1 / result.latency_ms.speedup, **shares}
    figure, axes = drawing(len(shares))
    names = list(shares)
    axes.barh(names, [100 * share for share in shares.values()], 0.6, color=[_tone(share) for share in shares.values()])
    for row, share in enumerate(shares.values()):
        axes.annotate(f"{share:.0%}", (100 * share, row), (4, 0), textcoords="offset points", va="center", color=INK)
    axes.axvline(100, color=INK, linewidth=1)
    axes.set_xlim(0, 115 * max(1.0, *shares.values()))
    axes.invert_yaxis()
    axes.set_xlabel("% of the baseline")
    return "What is left", ", ".join(f"{name} {share:.0%}" for name, share in shares.items()), figure


def _front(result: Result) -> _Drawn | None:
    """Speed (or what is left of the size) and drop of all trials that were judged to the end."""
    found = result.details.get("front")
    if not found:
        return None
    timed = found[0]["time"] is not None
    every = [
        _place(one, timed)
        for one in result.details["trials"]
        if one.get("rung") == 3 and (one.get("time") or not timed)
    ]
    best = sorted(_place(one, timed) for one in found)
    figure, axes = drawing(8)
    axes.plot(*zip(*every, strict=True), color=BASELINE, linewidth=0, marker="o", markersize=4, label="trials")
    axes.plot(*zip(*best, strict=True), color=CANDIDATE, linewidth=1.5, marker="o", markersize=6, label="front")
    chosen = next(one for one in found if one["number"] == result.details["best"])
    axes.plot(*_place(chosen, timed), color=BAD, linewidth=0, marker="*", markersize=13, label="written")
    axes.axhline(100 * result.details["bound"]["allowed"], color=INK, linewidth=1, linestyle="--")
    axes.set_xlabel("times as fast as the original" if timed else "% of the original's size")
    axes.set_ylabel("drop, % (dashed: the bound)")
    axes.margins(0.08)
    axes.legend(frameon=False, labelcolor=INK, loc="best")
    return "Pareto front", f"{len(best)} of {len(every)} models, the best: {chosen['recipe']}", figure


def _place(point: dict[str, Any], timed: bool) -> tuple[float, float]:
    return (1 / point["time"] if timed else 100 * point["size"]), 100 * point["drop"]


def _distribution(result: Result) -> _Drawn | None:
    """Share of runs that took at most so long."""
    curves = result.details.get("latency_quantiles_ms")
    if curves is None:
        return None
    figure, axes = drawing(7)
    for name, colour in (("before", BASELINE), ("after", CANDIDATE)):
        levels = [100 * number / (len(curves[name]) - 1) for number in range(len(curves[name]))]
        axes.plot(curves[name], levels, color=colour, linewidth=2, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("latency of a run, ms")
    axes.set_ylabel("% of runs")
    axes.set_ylim(0, 100)
    _plain_ticks(axes.xaxis)
    axes.legend(frameon=False, labelcolor=INK, loc="lower right")
    middle = len(curves["before"]) // 2
    alt = f"median {curves['before'][middle]:.3g} ms before, {curves['after'][middle]:.3g} ms after"
    return "Latency of single runs", alt, figure


def _operators(result: Result) -> _Drawn | None:
    """Time per operator in both models."""
    found = result.details.get("per_op")
    if found is None:
        return None
    ops = _largest(found["ops"])
    figure, axes = drawing(1.2 * len(ops) + 1)
    places = list(range(len(ops)))
    for name, colour, offset in (("before", BASELINE, -0.2), ("after", CANDIDATE, 0.2)):
        axes.barh([place + offset for place in places], [op[name] / 1e3 for op in ops], 0.38, color=colour, label=name)
    axes.set_yticks(places, [op["op_type"] for op in ops])
    axes.set_ylim(len(ops) - 0.5, -0.5)
    axes.set_xlabel("ms in a run")
    axes.legend(frameon=False, labelcolor=INK, loc="lower right")
    return "Time by operator", ", ".join(op["op_type"] for op in ops), figure


def _largest(ops: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The operators that can be seen beside the largest, and all others as one."""
    ordered = sorted(ops, key=lambda op: -max(op["before"], op["after"]))
    least = _VISIBLE * max(ordered[0]["before"], ordered[0]["after"])
    shown = [op for op in ordered[:_MOST_OPS] if max(op["before"], op["after"]) >= least]
    rest = ordered[len(shown) :]
    if len(rest) < 2:
        return ordered[: len(shown) + len(rest)]
    sums = {side: sum(op[side] for op in rest) for side in ("before", "after")}
    return [*shown, {"op_type": f"{len(rest)} others", **sums}]


def _errors(result: Result) -> _Drawn | None:
    """SQNR of the tensors in order of execution."""
    found = [(i, x["sqnr_db"]) for i, x in enumerate(result.details.get("error_by_tensor", ())) if x["sqnr_db"]]
    if not found:
        return None
    figure, axes = drawing(6)
    numbers, decibels = zip(*found, strict=True)
    axes.plot(numbers, decibels, color=CANDIDATE, linewidth=1.5, marker="o", markersize=3)
    worst = min(found, key=lambda pair: pair[1])
    name = result.details["error_by_tensor"][worst[0]]["tensor"]
    axes.plot(*worst, color=BAD, marker="o", markersize=7)
    side = "right" if worst[0] > numbers[-1] / 2 else "left"
    axes.annotate(short(name), worst, (0, -14), textcoords="offset points", ha=side, color=INK, fontsize=9)
    axes.margins(y=0.15)
    axes.set_xlabel("tensor, in order of execution")
    axes.set_ylabel("SQNR, dB (higher is better)")
    return "Error by tensor", f"lowest {worst[1]:.1f} dB at {name}", figure


def drawing(height: float) -> tuple[Any, Any]:
    """A figure of so many rows and its axes, in the page's colours. Raises `MissingExtra` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "report") from error
    figure = Figure(figsize=(_WIDTH, 0.9 + _ROW * height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def short(name: str) -> str:
    """A name that fits beside a picture."""
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def _tone(share: float) -> str:
    return CANDIDATE if share <= 1.02 else BAD


def inline(figure: Any, prefix: str) -> str:
    """A figure as SVG text for a page in which identifiers with `prefix` are its own."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "font.family": "sans-serif", "font.size": 10}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'\b(id|href)="(#?)', rf'\1="\2{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg height="[^"]*" ', r"<svg \1", text, count=1)
