"""Comparing two models' answers: what each metric says, which one is chosen, and what cannot be compared."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from optimizer.calibrate.answers import scores_output
from optimizer.calibrate.distance import Distance
from optimizer.calibrate.metrics import compare_outputs
from optimizer.data.samples import Samples, in_memory
from optimizer.errors import ConfigError, DataError
from optimizer.model.ports import Array
from optimizer.report.records import Accuracy
from optimizer.runtime.session import Session, open_session
from tests.builders import model

SAME = "g (float[1,3] x) => (float[1,3] y) { y = Identity(x) }"
HALF = "g (float[1,3] x) => (float[1,3] y) <float h = {0.5}> { y = Mul(x, h) }"
NEGATED = "g (float[1,3] x) => (float[1,3] z) { z = Neg(x) }"
IDS = "g (float[1,3] x) => (int64[1,3] y) { y = Cast<to=7>(x) }"
ROWS = np.array([[1, 2, 3], [4, 0, 1], [0, 5, 1], [7, 1, 1]], np.float32)


def session(text: str) -> Session:
    return open_session(model(text))


def samples(labels: Array | None = None, rows: Array = ROWS) -> Samples:
    return in_memory([{"x": row[None]} for row in rows], labels)


def compare(
    one: str, other: str, metric: str | None = None, labels: Array | None = None, rows: Array = ROWS
) -> Accuracy:
    data = samples(labels, rows)
    return compare_outputs(session(one), session(other), data, data, metric)


def test_equal_models_agree_in_every_metric() -> None:
    found = compare(SAME, SAME)
    assert (found.metric, found.before, found.after, found.drop) == ("agreement", 1, 1, 0)
    assert (found.sqnr_db, found.max_error, found.samples) == (math.inf, 0, 4)
    assert found.cosine == pytest.approx(1)


def test_half_of_everything_is_six_decibels_of_noise_and_the_same_answers() -> None:
    found = compare(SAME, HALF)
    assert found.agreement == 1
    assert found.sqnr_db == pytest.approx(20 * math.log10(2))
    assert found.max_error == 3.5
    assert found.cosine == pytest.approx(1)


def test_the_opposite_agrees_on_nothing() -> None:
    found = compare(SAME, NEGATED)
    assert found.agreement == 0
    assert found.cosine == pytest.approx(-1)


def test_labels_make_it_top1() -> None:
    found = compare(SAME, NEGATED, labels=np.array([2, 0, 0, 0]))
    assert (found.metric, found.before, found.after, found.drop) == ("top1", 0.75, 0.25, 0.5)


@pytest.mark.parametrize(
    ("metric", "before", "after", "drop"),
    [("agreement", 1, 1, 0), ("cosine", 1, 1, 0), ("sqnr", math.inf, 6.0206, 0.5), ("max_error", 0, 3.5, 3.5)],
)
def test_the_metric_asked_for_is_the_one_reported(metric: str, before: float, after: float, drop: float) -> None:
    found = compare(SAME, HALF, metric)
    assert (found.metric, found.before) == (metric, before)
    assert (found.after, found.drop) == pytest.approx((after, drop), abs=1e-4)


def test_a_function_sees_all_outputs_and_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "def total(outputs, labels):\n    return sum(run[0].sum() for run in outputs) + len(labels)\n"
    (tmp_path / "own_metric_1.py").write_text(body)
    monkeypatch.chdir(tmp_path)
    found = compare(SAME, HALF, "own_metric_1:total", labels=np.zeros(4, np.int64))
    assert (found.before, found.after, found.drop) == (30, 17, 13)


@pytest.mark.parametrize(
    ("body", "metric", "message"),
    [
        ("def f(outputs, labels): return 'high'", "own_metric_2:f", "must return a number"),
        ("f = 3", "own_metric_3:f", "is a int, not a function"),
        ("", "own_metric_4:f", "cannot be imported"),
        ("", "no_such_metric_module:f", "cannot be imported"),
    ],
)
def test_a_function_that_does_not_do_is_named(
    body: str, metric: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{metric.split(':')[0]}.py").write_text(body) if body else None
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        compare(SAME, HALF, metric)


def test_an_unknown_metric_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown metric 'f1': choose top1, agreement, cosine, sqnr, max_error or"):
        compare(SAME, SAME, "f1")


def test_top1_without_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="top1 needs whole-numbered labels"):
        compare(SAME, SAME, "top1")


def test_labels_that_do_not_fit_the_answers_are_no_labels() -> None:
    assert compare(SAME, SAME, labels=np.zeros((4, 2), np.int64)).metric == "agreement"
    assert compare(SAME, SAME, labels=np.zeros(4, np.float32)).metric == "agreement"


def test_normalized_embeddings_are_no_class_scores() -> None:
    rows = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    found = compare(SAME, HALF, rows=rows)
    assert (found.metric, found.agreement) == ("cosine", None)
    assert compare(SAME, HALF, "agreement", rows=rows).agreement == 1


def test_ids_agree_where_they_are_equal() -> None:
    rows = ROWS.copy()
    found = compare(IDS, IDS, rows=rows)
    assert (found.metric, found.agreement, found.quantities) == ("agreement", 1, False)
    assert compare(SAME, SAME, rows=rows).quantities


@pytest.mark.parametrize("metric", ["cosine", "sqnr", "max_error"])
def test_ids_have_no_distance(metric: str) -> None:
    with pytest.raises(ConfigError, match=f"the metric {metric} needs an output of real numbers"):
        compare(IDS, IDS, metric)


def test_a_drop_is_counted_in_answers_where_a_sample_holds_several() -> None:
    line = """g (float[1,3] x) => (float[1,5,3] y) {
        axis = Constant <value_ints = [1]> ()  times = Constant <value_ints = [1, 5, 1]> ()
        e = Unsqueeze (x, axis)  y = Tile (e, times) }"""
    found = compare(line, line, "agreement")
    assert (found.answers, found.samples) == (20, 4)
    assert dataclasses.replace(found, drop=0.1).lost == pytest.approx(2)
    assert dataclasses.replace(found, drop=0.1, answers=0).lost == pytest.approx(0.4)


def test_agreement_needs_scores() -> None:
    scalar = "g (float[1,3] x) => (float[1,1] y) { y = ReduceSum(x) }"
    with pytest.raises(ConfigError, match="agreement needs class scores"):
        compare(scalar, scalar, "agreement")


def test_outputs_that_do_not_match_are_refused() -> None:
    two = "g (float[1,3] x) => (float[1,3] a, float[1,3] b) { a = Neg(x) b = Neg(x) }"
    with pytest.raises(DataError, match="their outputs are y and a, b"):
        compare(SAME, two)
    with pytest.raises(DataError, match="cannot be compared"):
        compare(SAME, "g (float[1,3] x) => (float[1,1] y) { y = ReduceSum(x) }")


def test_no_samples_are_an_error() -> None:
    with pytest.raises(DataError, match="no samples"):
        compare(SAME, SAME, rows=ROWS[:0])


@pytest.mark.parametrize(
    ("array", "scores"),
    [
        (np.array([0.2, 0.8]), True),
        (np.full((1, 4, 5), 0.2), True),
        (np.log(np.full((2, 4, 5), 0.2)), True),
        (np.array([[3.0, -1.0]]), True),
        (np.array([[0.7]]), False),
        (np.ones((1, 4, 5)), False),
        (np.zeros((0, 3)), False),
        (np.array([[1, 2]]), False),
    ],
)
def test_class_scores_are_known_by_their_values(array: Array, scores: bool) -> None:
    assert (scores_output([np.zeros((1, 1)), array]) == 1) is scores


def test_places_where_both_are_infinite_do_not_count() -> None:
    found = Distance()
    found.update(np.array([1.0, np.inf, np.nan]), np.array([1.0, np.inf, np.nan]))
    assert (found.sqnr_db, found.max_error) == (math.inf, 0)


def test_one_lost_value_is_an_infinite_error() -> None:
    found = Distance()
    found.update(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    assert (found.sqnr_db, found.max_error) == (-math.inf, math.inf)


def test_merged_distances_equal_one_over_all() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=5), rng.normal(size=5)) for _ in range(6)]
    whole, parts = Distance(), [Distance(), Distance()]
    for number, pair in enumerate(pairs):
        whole.update(*pair)
        parts[number % 2].update(*pair)
    parts[0].merge(parts[1])
    for field in ("sqnr_db", "cosine", "max_error", "pairs"):
        assert getattr(parts[0], field) == pytest.approx(getattr(whole, field))


def test_models_with_inputs_of_their_own_get_samples_of_their_own() -> None:
    doubled = "g (float[1,3] x) => (float[1,3] y) <float h = {2.0}> { y = Mul(x, h) }"
    found = compare_outputs(session(SAME), session(doubled), samples(), samples(rows=ROWS / 2))
    assert found.max_error == 0


def test_a_model_is_compared_output_by_output_and_the_worst_counts() -> None:
    both = "g (float[1,3] x) => (float[1,3] y, float[1,3] z) {{ y = Identity(x) z = {}(x) }}"
    found = compare(both.format("Identity"), both.format("Neg"))
    assert found.cosine == pytest.approx(-1)
    assert found.agreement == 1
