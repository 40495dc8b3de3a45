"""Workers that meet in a real PostgreSQL server, which the test starts on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import TypeAlias

import pytest

from optimizer.tune.heartbeat import ALIVE
from optimizer.tune.storage import close
from optimizer.tune.study import Study
from tests.tune import fakes, server

pytest.importorskip("optuna")
pytestmark = pytest.mark.skipif(server.missing() is not None, reason=server.missing() or "")
Opened: TypeAlias = "Callable[[str], Study]"
SPAWN = get_context("spawn")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server.server() as found:
        yield found


def started(url: str, name: str, total: int, seconds: float) -> BaseProcess:
    process = SPAWN.Process(target=fakes.search, args=(url, total, seconds, 0, name))
    process.start()
    return process


DONE = ("COMPLETE", "PRUNED")
TRIAL = 4.0
"""Seconds that a trial sleeps: what a worker does between trials is short against it, even where other tests run."""


def ended(study: Study) -> list[datetime]:
    """When the finished trials were, in order."""
    return sorted(one.datetime_complete for one in study.trials() if one.state.name in DONE)


@pytest.fixture
def study(url: str) -> Iterator[Opened]:
    """Opens studies, and closes them in the end."""
    found: list[Study] = []

    def opened(name: str) -> Study:
        found.append(fakes.study(url, name))
        return found[-1]

    yield opened
    for one in found:
        close(one.storage)


def test_of_two_workers_one_is_killed_and_no_trial_is_lost_or_counted_twice(url: str, study: Opened) -> None:
    workers = [started(url, "killed", 16, 0.2) for _ in range(2)]
    watched = study("killed")
    fakes.until(lambda: watched.finished() >= 4)
    workers[0].kill()
    workers[1].join(90)
    assert workers[1].exitcode == 0
    done = [one for one in watched.trials() if one.state.name in DONE]
    assert len(done) == watched.finished() == 16
    assert not any(one.state.name in ("RUNNING", "WAITING") for one in watched.trials())
    assert sorted(watched.place(one) for one in done) == list(range(16))
    kept = [record["params"] for record in watched.records()]
    assert all(guess in kept for guess in watched.guesses)
    fakes.search(url, 16, 0.0, 0, "whole")
    assert fakes.quality(watched) >= 0.98 * fakes.quality(study("whole")) > 0


def test_a_second_worker_helps_at_once_and_two_do_1_6_times_the_trials_of_one(url: str, study: Opened) -> None:
    watched = study("late")
    guessed = len(watched.guesses)
    fakes.search(url, guessed, 0.0, 0, "late")
    workers = [started(url, "late", 60, TRIAL)]
    fakes.until(lambda: watched.finished() > guessed)
    workers.append(started(url, "late", 60, TRIAL))
    fakes.until(lambda: len({one.user_attrs[ALIVE][0] for one in watched.trials() if ALIVE in one.user_attrs}) == 3)
    before = len(ended(watched))
    fakes.until(lambda: len(ended(watched)) > before + 4)
    for worker in workers:
        worker.kill()
        worker.join()
    times = ended(watched)[before:]
    # One worker cannot end more than a trial in the time that a trial sleeps, whatever else the machine does.
    assert 4 / (times[4] - times[0]).total_seconds() > 1.6 / TRIAL
