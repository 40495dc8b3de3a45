"""What the samples that judge must say before anything is written."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.errors import BoundMissed  # noqa: E402
from optimizer.recipe import Finetune  # noqa: E402
from optimizer.train.checkpoint import State  # noqa: E402
from optimizer.train.distill import distill  # noqa: E402
from optimizer.train.held_back import refuse_no_gain, split  # noqa: E402
from optimizer.train.training import Score  # noqa: E402
from tests.train.learning import damaged, data, network  # noqa: E402

STATE = State(10, 1.0, 1e-3, best_step=10, best_loss=0.0, stale=0, nearest=0.0, straying=0, history=[], arrays={})


def score(parts: list[float]) -> Score:
    return Score(float(np.mean(parts)), tuple(parts))


def test_a_gain_in_every_block_is_a_gain() -> None:
    start = score([0.2, 0.3, 0.25, 0.4])
    better = score([0.18, 0.26, 0.23, 0.35])
    assert better.clearly_below(start)
    refuse_no_gain(STATE, start, better)


def test_a_gain_that_one_block_makes_alone_may_be_chance() -> None:
    start = score([0.2, 0.3, 0.25, 2.0])
    lucky = score([0.21, 0.31, 0.26, 0.5])
    assert lucky.loss < start.loss
    with pytest.raises(BoundMissed, match=r"may be chance on so few samples .*nothing was written"):
        refuse_no_gain(STATE, start, lucky)


def test_a_lower_loss_with_fewer_equal_answers_is_no_gain() -> None:
    start, better = score([0.2, 0.3, 0.25, 0.4]), score([0.18, 0.26, 0.23, 0.35])
    start = dataclasses.replace(start, alike=(True,) * 90 + (False,) * 10)
    refuse_no_gain(STATE, start, dataclasses.replace(better, alike=(True,) * 88 + (False,) * 12))  # may be chance
    refuse_no_gain(STATE, start, dataclasses.replace(better, alike=(False,) * 3 + (True,) * 90 + (False,) * 7))
    with pytest.raises(BoundMissed, match=r"fewer held-back answers agree .*90.0% -> 87.0%"):
        refuse_no_gain(STATE, start, dataclasses.replace(better, alike=(True,) * 87 + (False,) * 13))


def test_a_run_without_a_better_step_says_so() -> None:
    with pytest.raises(BoundMissed, match="no step of 10 did better"):
        refuse_no_gain(dataclasses.replace(STATE, best_step=0), score([1, 1]), score([1, 1]))


def test_random_changes_of_a_loss_are_taken_for_gains_one_time_in_twenty() -> None:
    random = np.random.default_rng(0)
    clear = 0
    for _ in range(2000):
        one, other = np.exp(random.normal(0, 0.3, (2, 10)))
        clear += score(list(one)).clearly_below(score(list(other)))
    assert 0.02 < clear / 2000 < 0.09


def test_samples_that_judge_are_not_learnt_from() -> None:
    rest, held = split(data(50), Finetune(), 0)
    assert (len(rest), len(held)) == (40, 10)
    assert not set(rest.indices) & set(held.indices)


def test_a_student_that_cannot_gain_clearly_is_refused_and_stays() -> None:
    teacher = network()
    student = damaged(teacher, 0.002)
    with pytest.raises(BoundMissed, match="nothing was written"):
        distill(student, teacher, data(), Finetune(epochs=1, lr=30.0, clip=0.0, augment="none"))
