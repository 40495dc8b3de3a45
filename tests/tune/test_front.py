"""Dominance, the front, and what the objective likes best."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from optimizer.tune.front import Point, dominates, front, ranked

POINT = Point(0, "key", "content", "recipe", "", {}, 1.0, 0.0, 0.0, 1.0, 30.0, True)
figures = st.sampled_from([0.25, 0.5, 0.75, 1.0])
points = st.lists(st.tuples(figures, figures, figures, st.booleans()), max_size=12)


def made(rows: list[tuple[float, float, float, bool]]) -> list[Point]:
    return [
        dataclasses.replace(POINT, number=number, content=str(number), time=time, drop=drop, size=size, holds=holds)
        for number, (time, drop, size, holds) in enumerate(rows)
    ]


@given(points)
def test_no_point_of_the_front_is_dominated_and_every_other_is(rows: list[tuple[float, float, float, bool]]) -> None:
    every = made(rows)
    best = front(every)
    held = [point for point in every if point.holds]
    assert all(point.holds for point in best)
    assert not any(dominates(other.values, one.values) for one in best for other in held)
    for point in held:
        assert any(one.values == point.values or dominates(one.values, point.values) for one in best)
    assert len({point.values for point in best}) == len(best)


def test_of_equal_points_the_earliest_stands_for_all() -> None:
    assert [point.number for point in front(made([(0.5, 0.0, 0.5, True)] * 3))] == [0]


def test_one_model_is_one_point_however_often_it_was_timed() -> None:
    twice = [
        dataclasses.replace(point, content="same") for point in made([(0.5, 0.0, 0.5, True), (0.25, 0.0, 0.5, True)])
    ]
    assert [point.number for point in front(twice)] == [0]


def test_what_misses_the_bound_is_not_on_the_front_however_fast() -> None:
    assert [point.number for point in front(made([(0.25, 0.0, 0.25, False), (1.0, 0.0, 1.0, True)]))] == [1]


def test_the_objective_decides_which_of_the_front_comes_first() -> None:
    both = front(made([(0.25, 0.0, 1.0, True), (0.5, 0.0, 0.25, True)]))
    assert [point.number for point in ranked(both, "latency")] == [0, 1]
    assert [point.number for point in ranked(both, "size")] == [1, 0]


def test_without_times_drop_and_size_remain() -> None:
    untimed = [
        dataclasses.replace(point, time=None) for point in made([(0.25, 0.5, 0.5, True), (1.0, 0.25, 0.5, True)])
    ]
    assert [point.number for point in front(untimed)] == [1]
