"""Closed-form fits against brute force on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.calibrate.lstsq import Pairs, fit, shifted

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 6)) @ RNG.normal(size=(6, 6)) + 3
Y = X + RNG.normal(size=X.shape)
WEIGHT = RNG.normal(size=(1, 4, 6))
KEPT = np.array([[True, False, True, True, False, True]])


LOST = RNG.normal(size=(400, 4)) + X[:, :4]


def pairs(x: np.ndarray = X, y: np.ndarray = Y, more: np.ndarray | None = None) -> Pairs:
    found = Pairs(None)
    for part in np.split(np.arange(len(x)), 4):
        found.update(x[part][:150], y[part][:150], None if more is None else more[part][:150])
    return found


def test_a_fit_is_the_least_squares_solution_with_an_intercept() -> None:
    found = fit(WEIGHT, pairs().moments(), KEPT, bias=True, ridge=1e-9)
    design = np.column_stack([Y[:, KEPT[0]], np.ones(len(Y))])
    best = np.linalg.lstsq(design, X @ WEIGHT[0].T, rcond=None)[0]
    assert np.allclose(found.weight[0][:, KEPT[0]], best[:-1].T, atol=1e-3)
    assert np.allclose(found.shift[0], best[-1], atol=1e-2)
    assert not found.weight[0][:, ~KEPT[0]].any()


def test_a_fit_without_a_bias_has_no_intercept() -> None:
    found = fit(WEIGHT, pairs().moments(), KEPT, bias=False, ridge=1e-9)
    best = np.linalg.lstsq(Y[:, KEPT[0]], X @ WEIGHT[0].T, rcond=None)[0]
    assert np.allclose(found.weight[0][:, KEPT[0]], best.T, atol=1e-3)
    assert not found.shift.any()


def test_a_fit_to_equal_inputs_changes_nothing() -> None:
    found = fit(WEIGHT, pairs(X, X).moments(), np.ones((1, 6), bool), bias=True)
    assert np.allclose(found.weight, WEIGHT) and np.allclose(found.shift, 0, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_errors_are_ranked_as_the_rows_would_rank_them(bias: bool) -> None:
    moments = pairs().moments()
    forms = [fit(WEIGHT, moments, KEPT, bias), shifted(WEIGHT, moments, KEPT, bias)]
    direct = [float(np.square(X @ WEIGHT[0].T - Y @ f.weight[0].T - f.shift[0]).sum(1).mean()) for f in forms]
    errors = [form.error(WEIGHT, moments) for form in forms]
    assert errors[0] - errors[1] == pytest.approx(direct[0] - direct[1], rel=1e-3)
    assert direct[0] < direct[1]


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_lost_beside_a_weight_is_answered_too_where_outputs_stay(bias: bool) -> None:
    stays = np.array([[True, True, False, True]])
    moments = pairs(more=LOST).moments().of(stays)
    found = fit(WEIGHT, moments, KEPT, bias, ridge=1e-9)
    design = np.column_stack([Y[:, KEPT[0]], *([np.ones(len(Y))] if bias else [])])
    wanted = X @ WEIGHT[0].T + LOST * stays
    best = np.linalg.lstsq(design, wanted, rcond=None)[0]
    assert np.allclose(found.weight[0][:, KEPT[0]], best[: KEPT.sum()].T, atol=1e-2)
    forms = [found, shifted(WEIGHT, moments, KEPT, bias)]
    direct = [float(np.square(wanted - Y @ f.weight[0].T - f.shift[0]).sum(1).mean()) for f in forms]
    errors = [form.error(WEIGHT, moments) for form in forms]
    assert errors[0] - errors[1] == pytest.approx(direct[0] - direct[1], rel=1e-3)
