"""What a page opens with: the verdict on each figure, good, bad or open."""

from __future__ import annotations

from typing import Any

import pytest

from optimizer.report.records import Change, GateResult
from optimizer.report.tiles import Tile, tiles
from tests.report.results import bare, full, slower


def tile(label: str, **changes: Any) -> Tile:
    return next(tile for tile in tiles(full(**changes)) if tile.label == label)


def test_every_figure_that_is_there_has_a_tile() -> None:
    assert [tile.label for tile in tiles(full())] == ["gates", "speed", "top1", "size", "memory"]
    assert [tile.label for tile in tiles(bare(memory_bytes=None))] == ["size"]


def test_the_worst_gate_gives_the_tone() -> None:
    assert tile("gates") == Tile("gates", "1 of 3", "1 missed, 1 inconclusive", "bad")
    passed = GateResult("size > 1GB", "passed", "")
    assert tile("gates", gates=(passed,)) == Tile("gates", "1 of 1", "all passed", "good")
    open_one = GateResult("p99 > 1ms", "inconclusive", "")
    assert tile("gates", gates=(passed, open_one)).tone == "open"


def test_speed_is_good_bad_or_open() -> None:
    assert tile("speed") == Tile("speed", "2.00×", "faster, 95% 1.90–2.10×", "good")
    assert next(one for one in tiles(slower()) if one.label == "speed").tone == "bad"


def test_equal_outputs_have_no_decibels() -> None:
    assert next(one for one in tiles(slower()) if one.label == "SQNR").value == "equal"


@pytest.mark.parametrize(("after", "tone"), [(500, "good"), (1010, ""), (2000, "bad")])
def test_sizes_are_judged_by_their_ratio(after: int, tone: str) -> None:
    assert tile("size", size_bytes=Change(1000, after)).tone == tone
