"""The estimated drop against what a large sample shows, and its edge cases."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from optimizer.tune import risk

RNG = np.random.default_rng(5)


def test_margins_are_what_the_right_class_has_more_than_the_best_other() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    np.testing.assert_allclose(risk.margins(scores, np.array([0, 2])), [1.0, -1.0])


def test_probabilities_are_compared_by_their_logarithms() -> None:
    logits = RNG.normal(size=(4, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    right = np.array([0, 1, 2, 3])
    np.testing.assert_allclose(risk.margins(probabilities, right), risk.margins(logits, right), rtol=1e-5)


def test_equal_answers_do_not_fall() -> None:
    margins = RNG.normal(size=50)
    assert risk.from_margins(margins, margins[:20], margins[:20]) == risk.Risk(0.0, 0.0)


@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
def test_few_samples_tell_what_many_show(noise: float) -> None:
    """The estimate from 20 samples is off by less than two thirds of what counting them is, on average."""
    many = RNG.normal(2.0, 1.0, 20_000)
    shown = float((many > 0).mean() - (many + RNG.normal(0, noise, many.size) > 0).mean())
    estimates, counts = [], []
    for _ in range(60):
        own = RNG.choice(many, 20)
        after = own + RNG.normal(0, noise, 20)
        estimates.append(risk.from_margins(RNG.choice(many, 100), own, after).drop)
        counts.append(float((own > 0).mean() - (after > 0).mean()))
    off = [float(np.abs(np.subtract(found, shown)).mean()) for found in (estimates, counts)]
    assert off[0] < max(0.67 * off[1], 0.01)


@pytest.mark.parametrize("count", [10, 20, 40])
@pytest.mark.parametrize("noise", [0.3, 0.6, 1.0])
def test_what_a_drop_is_said_to_stay_below_it_stays_below_four_times_of_five(noise: float, count: int) -> None:
    """... also where few samples tell how the errors spread."""
    many = RNG.normal(2.0, 1.2, 20_000)
    errors = RNG.normal(-0.2 * noise, noise, many.size)
    shown = float((many > 0).mean() - (many + errors > 0).mean())
    held = 0
    for _ in range(200):
        own = RNG.choice(many.size, 5 * count, replace=False)
        few = own[:count]
        held += risk.from_margins(many[own], many[few], many[few] + errors[few]).upper >= shown
    assert held / 200 > 0.72


def test_what_was_counted_cannot_be_denied() -> None:
    """Errors that are zero but for a few answers, which fall: no normal distribution, but seen all the same."""
    before = np.full(100, 10.0)
    after = before.copy()
    after[:20] = -1.0
    assert risk.from_margins(before, before, after).drop > 0.1


def test_one_sample_is_its_own_spread() -> None:
    found = risk.from_margins(np.array([1.0, 2.0]), np.array([1.0]), np.array([0.5]))
    assert np.isfinite([found.drop, found.upper]).all()


def test_drops_of_parts_give_a_mean_and_its_error() -> None:
    found = risk.spread([0.01, 0.03])
    assert found.drop == pytest.approx(0.02)
    assert found.upper == pytest.approx(0.02 + risk.CONFIDENCE * 0.01)
    assert risk.spread([0.01]) == risk.Risk(0.01, 0.01)


def test_ten_errors_may_spread_as_much_wider_as_their_chi_square_tells() -> None:
    """Equal margins have no error of their own: what is left is the shift and the spread that may be worse than seen.
    Of 9 degrees of freedom the 20% quantile of chi-square is 5.380."""
    errors, margin = np.array([1.0, -1.0] * 5), 3.0
    seen = math.sqrt(10 / 9)
    least, most = margin / seen, (margin - risk.CONFIDENCE * seen / math.sqrt(10)) / (seen * math.sqrt(9 / 5.380))
    found = risk.from_margins(np.full(100, margin), np.full(10, margin), margin + errors)
    assert found.drop == pytest.approx(1 - NormalDist().cdf(least))
    assert found.upper == pytest.approx(1 - NormalDist().cdf(most), rel=0.02)
