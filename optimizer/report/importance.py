"""Pictures of importance: what half of each group costs, and how the scores of a group's labels are spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optimizer.report.pictures import CANDIDATE, Picture, drawing, inline, short

_MOST = 24
"""Groups in a picture, those that are worth most."""
_BINS = 48


def pictures(found: dict[str, Any]) -> list[Picture]:
    """Both pictures of an importance document; none where there are no groups. Raises `MissingExtra`."""
    groups = [group for group in found["groups"][:_MOST] if group["scores"]]
    if not groups:
        return []
    shown = f"the {len(groups)} groups that are worth most" if len(groups) < len(found["groups"]) else "all groups"
    return [
        Picture("What half of a group costs", _alt(groups), inline(_costs(groups, found["measured"]), "costs")),
        Picture(f"Scores of labels, least to most, {shown}", _alt(groups), inline(_scores(groups), "scores")),
    ]


def _alt(groups: Sequence[dict[str, Any]]) -> str:
    return f"most: {groups[0]['name']}, least: {groups[-1]['name']}"


def _costs(groups: Sequence[dict[str, Any]], measured: bool) -> Any:
    figure, axes = drawing(0.8 * len(groups) + 1)
    axes.barh(
        [short(group["name"]) for group in groups], [group["costs"][-1] for group in groups], 0.7, color=CANDIDATE
    )
    axes.set_xscale("log" if min(group["costs"][-1] for group in groups) > 0 else "linear")
    axes.invert_yaxis()
    axes.set_xlabel("noise at the outputs, share of their power" if measured else "sum of scores")
    return figure


def _scores(groups: Sequence[dict[str, Any]]) -> Any:
    """One strip a group, from its least label to its most; dark labels matter."""
    strips = [_binned(sorted(group["scores"])) for group in groups]
    least = min((score for strip in strips for score in strip if score > 0), default=1.0)
    figure, axes = drawing(0.8 * len(groups) + 2)
    levels = [[math.log10(max(score, least)) for score in strip] for strip in strips]
    axes.pcolormesh(levels, cmap="viridis_r", edgecolors="face", linewidth=0.4)
    axes.set_yticks([row + 0.5 for row in range(len(groups))], [short(group["name"]) for group in groups])
    axes.invert_yaxis()
    axes.set_xticks([0, _BINS / 2, _BINS], ["least", "median", "most"])
    axes.set_xlabel(f"label (yellow: {least:.0e}, dark: {max(map(max, strips)):.0e})")
    return figure


def _binned(scores: Sequence[float]) -> list[float]:
    """`_BINS` scores at even distances."""
    return [scores[place * len(scores) // _BINS] for place in range(_BINS)]
