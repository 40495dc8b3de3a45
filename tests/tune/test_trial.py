"""What a trial does not do because of what is known already."""

from __future__ import annotations

import pytest

from optimizer.tune.guesses import complete
from optimizer.tune.space import STEPS, Params, space
from optimizer.tune.trial import hopeless
from tests.tune import fakes

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
