"""Placement against every subset of groups, by the cost that the module's docstring states."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.quantize import groups, placement
from optimizer.quantize.groups import Group
from optimizer.quantize.placement import Costs
from tests.quantize.nets import build, normal

DIAMOND = """g (float[4,4] x, float[4,4] v) => (float[4,4] y, float[4,4] z)
{ a = MatMul(x, w)  b = Sigmoid(a)  c = Mul(a, b)  d = Tanh(c)  e = Add(c, x)  f = Mul(d, e)
  y = Add(f, v)  z = Sigmoid(e)  unread = LeakyRelu(e) }"""
CHAIN = """g (float[4,4] x) => (float[4,4] y)
{ a = Sigmoid(x)  b = LeakyRelu(a)  c = Tanh(b)  d = Sigmoid(c)  y = LeakyRelu(d) }"""
SPLIT = """g (float[4,4] x) => (float[A,B] y, float[A,B] q)
{ a = Sigmoid(x)  p, q = Split <axis = 0> (a, n)  r = Mul(p, p)  y = MatMul(r, w)  unread = MatMul(q, w) }"""
NETS = {
    "diamond": build(DIAMOND, {"w": normal(4, 4)}),
    "chain": build(CHAIN),
    "split": build(SPLIT, {"w": normal(4, 4), "n": np.array([2, 2])}),
}


def total(
    net: ir.Model, found: Sequence[Group], costs: Costs, chosen: Collection[str], ready: Collection[str] = ()
) -> float:
    """Microseconds with the groups `chosen` in int8; values in `ready` come as uint8."""
    cost = sum(costs.groups[group.name][group.name in chosen] for group in found)
    writers = {name: group for group in found for name in group.outputs}
    values = [*net.graph.inputs, *(value for node in net.graph for value in node.outputs)]
    for value in values:
        writer = writers.get(str(value.name))
        in_int8 = [group for group in found if group.name in chosen and value.name in group.inputs]
        written = writer.name in chosen if writer is not None else value.name in ready
        direct = writer is not None and writer.rule.float_output
        others = {group.name for group in found if group.name not in chosen}
        in_float = value.is_graph_output() or any(
            use.node.name in others or not any(use.node.name in group.nodes for group in found) for use in value.uses()
        )
        if not written and in_int8:
            cost += costs.quantize.get(str(value.name), 0)
        if written and in_float and not direct and (writer is not None or value.name in ready):
            cost += costs.dequantize.get(str(value.name), 0)
    return cost


def subsets(found: Sequence[Group]) -> list[set[str]]:
    names = [group.name for group in found]
    return [set(chosen) for size in range(len(names) + 1) for chosen in itertools.combinations(names, size)]


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), border=st.sampled_from([0.0, 1.0, 5.0]))
def test_no_other_set_of_groups_is_cheaper(name: str, seed: int, border: float) -> None:
    net, rng = NETS[name], np.random.default_rng(seed)
    found = groups.partition(net).groups
    names = sorted({value for group in found for value in (*group.inputs, *group.outputs)})
    costs = Costs(
        {group.name: tuple(rng.uniform(0, 5, 2)) for group in found},
        {value: float(rng.uniform(0, border)) for value in names},
        {value: float(rng.uniform(0, border)) for value in names},
    )
    chosen = placement.choose(net, found, costs)
    best = min(total(net, found, costs, subset) for subset in subsets(found))
    assert total(net, found, costs, chosen) == pytest.approx(best, abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_an_input_that_comes_as_bytes_costs_no_quantizing(seed: int) -> None:
    net, rng = NETS["chain"], np.random.default_rng(seed)
    found = groups.partition(net).groups
    values = ["x", "a", "b", "c", "d", "y"]
    costs = Costs(
        {group.name: tuple(rng.uniform(0, 5, 2)) for group in found},
        {value: float(rng.uniform(0, 5)) for value in values},
        {value: float(rng.uniform(0, 5)) for value in values if value != "x"},
    )
    chosen = placement.choose(net, found, costs, uint8_inputs=["x"])
    best = min(total(net, found, costs, subset, ["x"]) for subset in subsets(found))
    assert total(net, found, costs, chosen, ["x"]) == pytest.approx(best, abs=1e-6)


def costs_of(found: Sequence[Group], gain: float, border: float) -> Costs:
    names = {value for group in found for value in (*group.inputs, *group.outputs)}
    each = dict.fromkeys(names, border)
    return Costs({group.name: (gain, 0.0) for group in found}, each, each)


def test_everything_is_int8_where_borders_are_free() -> None:
    found = groups.partition(NETS["diamond"]).groups
    assert placement.choose(NETS["diamond"], found, costs_of(found, 1, 0)) == {group.name for group in found}


def test_nothing_is_int8_where_borders_cost_more_than_it_saves() -> None:
    found = groups.partition(NETS["diamond"]).groups
    assert placement.choose(NETS["diamond"], found, costs_of(found, 1, 100)) == set()


def test_one_border_serves_all_readers_of_a_value() -> None:
    """Two gains of 3 pay for one Q of 5, which neither would pay alone."""
    net = build("g (float[4] x) => (a, b) { t = Tanh(x) a = Sigmoid(t) b = LeakyRelu(t) }")
    found = groups.partition(net).groups
    costs = Costs({group.name: (3.0, 0.0) for group in found}, {"t": 5.0}, {})
    assert len(placement.choose(net, found, costs)) == 2
    costs = Costs({found[0].name: (3.0, 0.0), found[1].name: (0.0, 3.0)}, {"t": 5.0}, {})
    assert placement.choose(net, found, costs) == set()


def test_a_slow_kernel_is_taken_along_when_it_saves_two_borders() -> None:
    net = build("g (float[4] x) => (y) { a = Sigmoid(x) b = LeakyRelu(a) y = Sigmoid(b) }")
    found = groups.partition(net).groups
    costs = Costs(
        {found[0].name: (9.0, 1.0), found[1].name: (1.0, 3.0), found[2].name: (9.0, 1.0)},
        dict.fromkeys("xaby", 2.0),
        dict.fromkeys("xaby", 2.0),
    )
    assert placement.choose(net, found, costs) == {group.name for group in found}


def test_a_product_that_can_write_float_pays_nothing_behind_it() -> None:
    net = build("g (float[4,4] x) => (y) { a = MatMul(x, w) y = Tanh(a) }", {"w": normal(4, 4)})
    found = groups.partition(net).groups
    costs = Costs({found[0].name: (3.0, 1.0)}, {"x": 1.0}, {"a": 100.0})
    assert placement.choose(net, found, costs) == {found[0].name}
