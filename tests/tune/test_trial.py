"""What a trial does not do because of what is known already."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from optimizer.pipeline.common import Silent
from optimizer.recipe import Run
from optimizer.tune.build import Builder
from optimizer.tune.guesses import complete
from optimizer.tune.judge import Judge
from optimizer.tune.search import prepare
from optimizer.tune.space import STEPS, Params, space
from optimizer.tune.trial import carry_out, hopeless
from tests.tune import fakes, small

ROWS = space(train=True, timed=True)
BOTH, TRAINED = "prune,quantize", "prune,finetune,quantize"


def params(**fields: object) -> Params:
    steps = fields.pop("steps", BOTH)
    return complete(ROWS, {STEPS: steps, **{f"prune.{name}": value for name, value in fields.items()}})  # type: ignore[dict-item]


def missed(of: Params, by: float = 2.0) -> dict[str, object]:
    return {**fakes.found(of), "params": dict(of), "violation": by, "holds": by <= 0, "upper": 0.03}


def test_what_prunes_more_than_a_recipe_that_missed_clearly_is_not_built() -> None:
    why = hopeless(params(macs=0.8), [missed(params(macs=0.9))])
    assert why is not None
    assert "which may fall by 0.0300" in why


@pytest.mark.parametrize(
    ("asked", "known", "by"),
    [
        (params(macs=0.9), params(macs=0.8), 2.0),
        (params(macs=0.8), params(macs=0.9), 0.5),
        (params(macs=0.8), params(macs=0.9), -0.5),
        (params(macs=0.8), params(macs=0.9, criterion="wanda"), 2.0),
        (params(macs=0.8, steps=TRAINED), params(macs=0.9), 2.0),
        (params(macs=0.8), params(macs=0.9, steps=TRAINED), 2.0),
        (params(macs=0.8, steps="prune"), params(macs=0.9), 2.0),
        (params(steps="quantize"), params(macs=0.9), 2.0),
        (params(macs=0.8), {**params(macs=0.9), "quantize.calibration": "minmax"}, 2.0),
    ],
    ids=["less", "nearly held", "held", "otherwise", "trained", "trained before", "unquantized", "unpruned", "finer"],
)
def test_anything_else_is_tried(asked: Params, known: Params, by: float) -> None:
    assert hopeless(asked, [missed(known, by)]) is None


@pytest.mark.parametrize("alike", ["key", "content"])
def test_a_recipe_or_a_model_that_is_known_is_not_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: str
) -> None:
    small.made(tmp_path)
    settings = dataclasses.replace(small.BY_SIZE, cache=tmp_path / "cache")
    bench = prepare(tmp_path / "m.onnx", settings, Run(data=str(tmp_path / "d.npz")))
    asked = complete(ROWS, {"quantize.mode": "weights"})
    first = carry_out(bench, asked, [], Silent())
    assert first["holds"]
    monkeypatch.setattr(Judge, "climb", None)
    if alike == "key":
        monkeypatch.setattr(Builder, "build", None)
    known = {**first, **{name: "another" for name in ("key", "content") if name != alike}}
    again = carry_out(bench, asked, [known], Silent())
    figures = ("drop", "upper", "violation", "holds", "size")
    assert [again[name] for name in figures] == [first[name] for name in figures]
