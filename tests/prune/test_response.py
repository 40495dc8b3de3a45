"""Costs of labels at the outputs: measured points scale the losses, and costs never fall along the order."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.elimination import Curve
from optimizer.prune.remove import replace
from optimizer.prune.response import Outputs, is_fed, marginal, pooled
from optimizer.runtime.session import open_session
from tests.quantize.nets import build


def test_costs_add_up_to_the_measured_noise() -> None:
    lost = np.cumsum(np.arange(1.0, 9.0)) / 100
    costs = marginal(Curve(np.arange(8), lost), [(2, 3 * lost[1]), (4, 5 * lost[3])])
    assert costs[:2].sum() == pytest.approx(3 * lost[1])
    assert costs[:4].sum() <= 5 * lost[3]
    assert costs.sum() == pytest.approx(5 * lost[7])


def test_costs_rise_strictly_even_where_the_noise_falls() -> None:
    costs = marginal(Curve(np.arange(6), np.linspace(0.1, 0.2, 6)), [(1, 0.5), (3, 0.1)])
    assert np.all(np.diff(costs) > 0)


def test_pooling_averages_neighbours_that_are_out_of_order() -> None:
    assert pooled(np.array([1.0, 5.0, 3.0, 4.0, 9.0])).tolist() == [1, 4, 4, 4, 9]
    assert pooled(np.array([3.0, 2.0, 1.0])).tolist() == [2, 2, 2]


@pytest.mark.parametrize("changed", ["w", "v", "b"])
def test_noise_of_changed_constants_is_that_of_the_model_that_has_them(changed: str) -> None:
    text = "net (float[1,4,5,5] x) => (y) { c = Conv(x, w) m = GlobalAveragePool(c) f = Flatten(m)"
    shapes, rng = {"w": (6, 4, 3, 3), "v": (6, 3), "b": (3,)}, np.random.default_rng(0)
    constants, others = ({k: rng.normal(size=shapes[k]).astype(np.float32) for k in shapes} for _ in range(2))
    model = build(text + " p = MatMul(f, v) y = Add(p, b) }", constants)
    feeds = [{"x": rng.normal(size=(1, 4, 5, 5)).astype(np.float32)} for _ in range(3)]
    assert [name for name, value in model.graph.initializers.items() if is_fed(value)] == ["v", "b"]
    outputs, other = Outputs(model, feeds, threads=1), model.clone()
    replace(other.graph, {changed: others[changed]})
    before, after = ([open_session(one).run(feed)[0] for feed in feeds] for one in (model, other))
    power = sum(np.square(one).sum() for one in before)
    expected = sum(np.square(one - two).sum() for one, two in zip(before, after, strict=True)) / power
    assert outputs.noise(model) == pytest.approx(0, abs=1e-9)
    assert outputs.noise(other) == pytest.approx(expected, rel=1e-4)
