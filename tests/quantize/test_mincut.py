"""Minimum cuts against all cuts."""

from __future__ import annotations

import itertools
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.quantize.mincut import Network

Edge = tuple[int, int, float]
SIZE = 6
"""Vertices; 0 is the source, the last the sink."""
CAPACITIES = st.one_of(st.integers(0, 10).map(float), st.floats(0.001, 10), st.just(math.inf))
GRAPHS = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1), CAPACITIES), max_size=16)


def capacity(edges: list[Edge], side: set[int]) -> float:
    return sum(room for tail, head, room in edges if tail in side and head not in side)


def cut(edges: list[Edge]) -> set[int]:
    network = Network()
    for edge in edges:
        network.add(*edge)
    return {int(str(vertex)) for vertex in network.source_side(0, SIZE - 1)}


@given(GRAPHS)
def test_no_set_of_vertices_is_a_cheaper_cut(edges: list[Edge]) -> None:
    inner = range(1, SIZE - 1)
    best = min(
        capacity(edges, {0, *chosen}) for size in range(SIZE - 1) for chosen in itertools.combinations(inner, size)
    )
    if math.isinf(best):
        return
    side = cut(edges)
    assert 0 in side
    assert SIZE - 1 not in side
    assert capacity(edges, side) == pytest.approx(best, abs=1e-6)


def test_all_that_shares_a_bottleneck_lies_on_the_sources_side() -> None:
    """Which of the two branches the flow took shows only by way of its reversal."""
    last = SIZE - 1
    branches = [(0, 1, 1.0), (0, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0)]
    assert cut([*branches, (3, last, 1.0)]) == {0, 1, 2, 3}
    assert cut([*reversed(branches), (3, last, 1.0)]) == {0, 1, 2, 3}


def test_edges_between_the_same_two_add_up() -> None:
    assert cut([(0, 1, 1.0), (0, 1, 1.0), (1, SIZE - 1, 1.5)]) == {0, 1}


def test_an_infinite_edge_is_never_cut() -> None:
    assert cut([(0, 1, 100.0), (1, 2, math.inf), (2, SIZE - 1, 5.0)]) == {0, 1, 2}
    assert cut([(0, 1, 1.0), (1, 2, math.inf), (2, SIZE - 1, 5.0)]) == {0}


def test_a_capacity_of_nothing_joins_nothing() -> None:
    network = Network()
    network.add("a", "b", 0.0)
    assert network.source_side("a", "b") == {"a"}


def test_labels_may_be_anything_hashable() -> None:
    network = Network()
    network.add("int8", ("reads", "x"), 3.0)
    network.add(("reads", "x"), "float", 2.0)
    assert network.source_side("int8", "float") == {"int8", ("reads", "x")}


def test_thousands_of_vertices_take_no_time() -> None:
    network, count = Network(), 4000
    for vertex in range(count):
        network.add("s", vertex, (vertex * 7919) % 101)
        network.add(vertex, "t", (vertex * 104729) % 97)
        network.add(vertex, (vertex + 1) % count, 13.0)
        network.add((vertex * 31 + 7) % count, vertex, 5.0)
    start = time.perf_counter()
    side = network.source_side("s", "t")
    assert 10 < len(side) < count
    assert time.perf_counter() - start < 20
