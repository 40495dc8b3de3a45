"""A benchmark's times by operator and errors by tensor, and a search's front, as tables; empty where there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from optimizer.report.records import Result

MOST = 10
"""Rows in a table of layers or tensors; all of them are in the JSON document."""


NOTABLE = 0.01
"""Share of clipped values from which a tensor is listed."""


class Listing(NamedTuple):
    """A titled table."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def listings(result: Result) -> list[Listing]:
    """The front of a search, operators by what they gain or lose, layers likewise, tensors by their error, and those
    that int8 cuts off."""
    return [*_front(result), *_times(result), *_errors(result), *_clipped(result)]


def _front(result: Result) -> Iterator[Listing]:
    found = result.details.get("front")
    if not found:
        return
    yield Listing(
        f"Pareto front of {len(result.details['trials'])} trials (* is what was written)",
        ("recipe", "speed", "drop", "at most", "size"),
        [_point(point, point["number"] == result.details["best"]) for point in found],
    )


def _point(point: dict[str, Any], best: bool) -> tuple[str, ...]:
    speed = "" if point["time"] is None else f"{1 / point['time']:.2f}x"
    mark = "* " if best else "  "
    return (mark + point["recipe"], speed, f"{point['drop']:.4f}", f"{point['upper']:.4f}", f"{point['size']:.2f}x")


def _times(result: Result) -> Iterator[Listing]:
    found = result.details.get("per_op")
    if found is None:
        return
    before, after = found["total"]
    spent = f"{before:.2f} ms and {after:.2f} ms in all nodes"
    if result.latency_ms is not None:
        spent += f", {result.latency_ms.before.p50:.2f} ms and {result.latency_ms.after.p50:.2f} ms by the clock"
    yield Listing(
        f"time by operator ({spent})",
        ("operator", "layers", "before", "after", "change"),
        [(op["op_type"], _counts(op["layers"]), *_spent(op["before"], op["after"])) for op in found["ops"]],
    )
    peak = found["peak"]
    yield Listing(
        f"layers that change most (peak: {peak[0] / 1e9:.0f} GMAC/s in float, {peak[1] / 1e9:.0f} in int8)",
        ("layer", "operators", "before", "after", "change", "of peak"),
        [_layer(layer) for layer in sorted(found["layers"], key=_moved)[:MOST]],
    )


def _errors(result: Result) -> Iterator[Listing]:
    found = result.details.get("error_by_tensor")
    if not found:
        return
    differing = [tensor for tensor in found if tensor["sqnr_db"] is not None]
    worst = sorted(differing, key=lambda tensor: tensor["sqnr_db"])[:MOST]
    yield Listing(
        f"tensors with the largest error, of {len(found)} compared",
        ("tensor", "made by", "SQNR", "cosine"),
        [(x["tensor"], x["op_type"], f"{x['sqnr_db']:.1f} dB", f"{x['cosine']:.5f}") for x in worst],
    )


def _clipped(result: Result) -> Iterator[Listing]:
    found = result.details.get("saturation", {}).get("tensors", ())
    much = [tensor for tensor in found if tensor["clipped"] >= NOTABLE]
    if much:
        yield Listing(
            f"tensors with the most values beyond their int8 range, of {len(found)}",
            ("tensor", "beyond", "range", "seen"),
            [(x["tensor"], f"{x['clipped']:.1%}", _span(x["range"]), _span(x["seen"])) for x in much[:MOST]],
        )


def _span(ends: Sequence[float]) -> str:
    return f"{ends[0]:.3g} .. {ends[1]:.3g}"


def _layer(layer: dict[str, Any]) -> tuple[str, ...]:
    sides = [layer["before"], layer["after"]]
    ops = " → ".join("+".join(side["ops"]) for side in sides if side)
    shares = " → ".join(f"{side['peak_share']:.0%}" for side in sides if side and side["peak_share"] is not None)
    return (layer["name"], ops, *_spent(*(side["microseconds"] if side else 0.0 for side in sides)), shares)


def _moved(layer: dict[str, Any]) -> float:
    before, after = (float(side["microseconds"]) if side else 0.0 for side in (layer["before"], layer["after"]))
    return -abs(after - before)


def _spent(before: float, after: float) -> tuple[str, str, str]:
    change = f"{before / after:.2f}x" if before and after else ("new" if after else "gone")
    return f"{before / 1e3:.3f} ms", f"{after / 1e3:.3f} ms", change


def _counts(layers: Sequence[int]) -> str:
    return str(layers[0]) if layers[0] == layers[1] else f"{layers[0]} → {layers[1]}"
