"""Two workers with real trials; and the simulation of more of them against what can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tune import scale, server
from tests.tune.queueing import Load, simulate

pytest.importorskip("optuna")
SAMPLES = Path(__file__).parents[2] / "sample_models"
LIGHT = Load(service=0.005, service_each=0.0, work=0.0, work_each=0.0, beat=0.0)


@pytest.mark.parametrize("workers", [1, 10, 100])
def test_workers_that_do_not_hinder_each_other_do_so_many_times_the_trials(workers: int) -> None:
    found = simulate(LIGHT, workers, trial=30.0, cores=2)
    assert found.rate == pytest.approx(workers / 30.0, rel=0.1)


def test_a_database_does_no_more_than_it_can() -> None:
    """1,000 workers want 33 trials a second, and two cores serve 10."""
    heavy = Load(service=0.2, service_each=0.0, work=0.0, work_each=0.0, beat=0.0)
    found = simulate(heavy, 1000, trial=30.0, cores=2)
    assert found.rate == pytest.approx(10, rel=0.05)
    assert found.busy > 0.95


def test_what_each_running_trial_adds_is_paid_by_every_worker() -> None:
    load = Load(service=0.001, service_each=0.0001, work=0.1, work_each=0.01, beat=0.0005)
    assert load.database(100, trial=30.0) == pytest.approx(0.001 + 0.01 + 0.001)
    assert simulate(load, 100, trial=30.0, cores=8).rate == pytest.approx(100 / (30.0 + 0.1 + 1.0), rel=0.1)


def test_straight_lines_are_fitted_to_what_trials_cost() -> None:
    found = [scale.Cost(running, 100, 0.002 + 0.0001 * running, 0.1 + 0.01 * running) for running in (0, 50, 200)]
    load = scale.fitted(found, 0.0005)
    assert (load.service, load.service_each) == pytest.approx((0.002, 0.0001))
    assert (load.work, load.work_each) == pytest.approx((0.1, 0.01))


@pytest.mark.zoo
@pytest.mark.skipif(server.missing() is not None, reason=server.missing() or "")
def test_two_workers_do_1_6_times_the_accuracy_only_trials_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with server.server() as url:
        found = [
            scale.real(url, SAMPLES / "residual_cnn.onnx", str(SAMPLES / "digits.calib.npz"), workers)
            for workers in (1, 2)
        ]
    assert [one.trials for one in found] == [len(scale.EVEN)] * 2
    assert found[1].per_minute > 1.6 * found[0].per_minute
