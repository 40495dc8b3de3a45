"""The noise of a model with other constants is measured where they are fed, too."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.outputs import Outputs, is_fed
from optimizer.model.passes.edit import store_all
from optimizer.runtime.session import open_session
from tests.quantize.nets import build


@pytest.mark.parametrize("changed", ["w", "v", "b"])
def test_noise_of_changed_constants_is_that_of_the_model_that_has_them(changed: str) -> None:
    text = "net (float[1,4,5,5] x) => (y) { c = Conv(x, w) m = GlobalAveragePool(c) f = Flatten(m)"
    shapes, rng = {"w": (6, 4, 3, 3), "v": (6, 3), "b": (3,)}, np.random.default_rng(0)
    constants, others = ({k: rng.normal(size=shapes[k]).astype(np.float32) for k in shapes} for _ in range(2))
    model = build(text + " p = MatMul(f, v) y = Add(p, b) }", constants)
    feeds = [{"x": rng.normal(size=(1, 4, 5, 5)).astype(np.float32)} for _ in range(3)]
    assert [name for name, value in model.graph.initializers.items() if is_fed(value)] == ["v", "b"]
    outputs, other = Outputs(model, feeds, threads=1), model.clone()
    store_all(other.graph, {changed: others[changed]})
    before, after = ([open_session(one).run(feed)[0] for feed in feeds] for one in (model, other))
    power = sum(np.square(one).sum() for one in before)
    expected = sum(np.square(one - two).sum() for one, two in zip(before, after, strict=True)) / power
    assert outputs.noise(model) == pytest.approx(0, abs=1e-9)
    assert outputs.noise(other) == pytest.approx(expected, rel=1e-4)
