"""Neighbours of the best: one thing changed, within the space, and reproducible."""

from __future__ import annotations

import random

import pytest

from optimizer.recipe import parse, text
from optimizer.tune.guesses import complete
from optimizer.tune.sampler import changed
from optimizer.tune.space import STEPS, Choice, recipe, space
from tests.tune import fakes

ROWS = space(train=True, timed=True)


@pytest.mark.parametrize("steps", ["quantize", "prune,quantize", "prune,finetune,quantize"])
def test_one_thing_is_changed_and_the_rest_follows(steps: str) -> None:
    best = complete(ROWS, {STEPS: steps})
    for seed in range(60):
        found = changed(best, ROWS, random.Random(seed))
        both = [name for name in best if name in found and found[name] != best[name]]
        assert len(both) == 1
        assert set(found) == {row.name for row in ROWS if row.applies(found)}
        assert parse(text(recipe(found))) == recipe(found)
        for row in ROWS:
            if row.name in found and isinstance(row.values, Choice):
                assert found[row.name] in row.values.values
            elif row.name in found and not isinstance(row.values, Choice):
                assert row.values.low <= float(found[row.name] or 0) <= row.values.high


def test_a_study_finds_the_neighbours_of_its_best(tmp_path: object) -> None:
    place = f"{tmp_path}/s.journal"
    fakes.search(place, 40)
    study = fakes.study(place)
    assert min(record["size"] for record in study.records() if record["holds"]) < 0.165
