"""Expected times: what was measured where it was, a straight line between, never more time for less."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.choice.times import REST, Curve, Loads, Times, curve
from optimizer.prune.groups import analyse
from tests.choice.test_repair import TOKENS, net
from tests.prune.equality import some_labels


def test_loads_are_macs_or_what_is_put_out() -> None:
    model = net(TOKENS)
    axes = analyse(model)
    names = [node.op_type for node in model.graph]
    for number, node in enumerate(model.graph):
        node.name = str(number)
    loads = Loads(axes).of(axes.none())
    assert loads[REST] == 14 * (12 * 32 + 32 * 16 + 16 * 6)
    assert [loads[str(i)] for i, op in enumerate(names) if op == "MatMul"] == [14 * 12 * 32, 14 * 32 * 16, 14 * 16 * 6]
    assert [loads[str(i)] for i, op in enumerate(names) if op != "MatMul"] == [14 * 32, 14 * 32, 14 * 16]


def test_time_is_what_was_measured_and_between_a_straight_line() -> None:
    found = curve(np.array([100.0, 50, 100, 0]), np.array([0.5, 0.2, 0.7, 0.1]))
    assert found.at(100) == pytest.approx(0.6)
    assert found.at(75) == pytest.approx(0.4)
    assert found.at(500) == pytest.approx(0.6)


def test_less_load_never_takes_longer() -> None:
    assert np.all(np.diff(curve(np.array([1.0, 2, 3]), np.array([0.3, 0.2, 0.4])).times) >= 0)


def test_a_choice_takes_what_its_layers_take() -> None:
    model = net(TOKENS)
    for number, node in enumerate(model.graph):
        node.name = str(number)
    axes = analyse(model)
    whole, dropped = Loads(axes).of(axes.none()), some_labels(axes, 0.5, seed=0)
    table = {name: Curve(np.array([0, load]), np.array([0, 1 / len(whole)])) for name, load in whole.items()}
    part = Loads(axes).of(dropped)
    times = Times(axes, table)
    assert times.of(axes.none()) == pytest.approx(1)
    assert times.of(dropped) == pytest.approx(np.mean([part[name] / whole[name] for name in whole]))
