"""Costs of labels at the outputs: measured points scale the losses, and costs never fall along the order."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.elimination import Curve
from optimizer.choice.response import marginal


def test_costs_add_up_to_the_measured_noise() -> None:
    lost = np.cumsum(np.arange(1.0, 9.0)) / 100
    costs = marginal(Curve(np.arange(8), lost), [(2, 3 * lost[1]), (4, 5 * lost[3])])
    assert costs[:2].sum() == pytest.approx(3 * lost[1])
    assert costs[:4].sum() <= 5 * lost[3]
    assert costs.sum() == pytest.approx(5 * lost[7])


def test_costs_rise_strictly_even_where_the_noise_falls() -> None:
    costs = marginal(Curve(np.arange(6), np.linspace(0.1, 0.2, 6)), [(1, 0.5), (3, 0.1)])
    assert np.all(np.diff(costs) > 0)
