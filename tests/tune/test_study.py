"""Trials between workers: none lost, none counted twice, the same way for the same seed."""

from __future__ import annotations

import os
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import ConfigError
from optimizer.pipeline.common import Silent
from optimizer.tune import front, trial
from optimizer.tune.settings import Tune
from optimizer.tune.space import Params
from optimizer.tune.study import ATTEMPTS, Study
from optimizer.tune.worker import work
from tests.tune import fakes

pytest.importorskip("optuna")
SPAWN = get_context("spawn")


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")


def one(study: Study, total: int | None = None) -> Params:
    """Take a trial, finish it, and return its values."""
    taken = study.take(total)
    assert taken is not None
    params = study.values(taken)
    assert tell(study, taken, params)
    return params


def tell(study: Study, taken: Any, params: Params) -> bool:
    record = fakes.found(params)
    values = trial.values(record, Tune(objective="size"))
    return study.finish(taken, record, values, record["violation"])


def best(study: Study) -> list[tuple[float, ...]]:
    points = [trial.point(number, record) for number, record in enumerate(study.records())]
    return [point.values for point in front.front([point for point in points if point is not None])]


def started(*arguments: object) -> BaseProcess:
    process = SPAWN.Process(target=fakes.search, args=arguments)
    process.start()
    return process


def test_the_guesses_come_first_and_in_their_order(place: str) -> None:
    study = fakes.study(place)
    assert [one(study) for _ in study.guesses] == study.guesses


def test_no_trial_is_taken_beyond_the_total(place: str) -> None:
    study = fakes.study(place)
    for _ in range(3):
        one(study, 3)
    assert study.take(3) is None


def test_the_same_seed_goes_the_same_way_and_another_seed_another(place: str, tmp_path: Path) -> None:
    ways = []
    for number, seed in enumerate((1, 1, 2)):
        study = fakes.study(str(tmp_path / f"{number}.journal"), seed=seed)
        ways.append([one(study) for _ in range(16)])
    assert ways[0] == ways[1]
    assert ways[0] != ways[2]


@pytest.mark.parametrize("when", [3, 13])
def test_interrupted_and_continued_goes_the_way_of_one_that_was_not(place: str, tmp_path: Path, when: int) -> None:
    whole = fakes.study(str(tmp_path / "whole.journal"))
    fakes.search(str(tmp_path / "whole.journal"), 18)

    calls = 0

    def run(params: Params, known: list[dict[str, Any]], progress: object) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == when:
            raise KeyboardInterrupt
        return fakes.found(params)

    assert work(run, Tune(trials=18, objective="size"), fakes.study(place), Silent())
    assert fakes.study(place).finished() == when - 1
    fakes.search(place, 18)
    halves = fakes.study(place)
    assert halves.finished() == whole.finished() == 18
    assert [record["params"] for record in halves.records()][: when - 1] == [
        record["params"] for record in whole.records()
    ][: when - 1]
    assert best(halves) == best(whole)


def test_a_trial_that_was_interrupted_is_the_next_to_be_taken_with_the_same_values(place: str) -> None:
    study = fakes.study(place)
    for _ in range(12):
        one(study)
    taken = study.take(None)
    assert taken is not None
    params = study.values(taken)
    study.give_back(taken, died=False)
    assert one(fakes.study(place)) == params


def test_a_guess_whose_worker_died_before_it_had_values_is_not_lost(place: str) -> None:
    study = fakes.study(place)
    study.give_back(study.take(None), died=True)
    assert one(study) == study.guesses[0]


def test_a_killed_workers_trial_is_taken_over_at_once_on_its_machine(place: str) -> None:
    victim = started(place, 10, 60.0)
    study = fakes.study(place)
    while not any(record.params for record in study.trials()):
        time.sleep(0.05)
    victim.kill()
    victim.join()
    assert one(study) == study.guesses[0]
    assert study.finished() == 1


def test_a_worker_that_fell_silent_loses_its_trial_and_what_it_tells_later(place: str) -> None:
    silent, other = fakes.study(place), fakes.study(place)
    taken = silent.take(None)
    params = silent.values(taken)
    deadline = time.monotonic() + 20
    other.recover()
    while not any(found.state.name == "WAITING" for found in other.trials()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        other.recover()
    assert not tell(silent, taken, params)
    assert one(other) == params
    assert other.finished() == 1


def test_heartbeats_keep_a_trial(place: str) -> None:
    study, other = fakes.study(place), fakes.study(place)
    taken = study.take(None)
    with study.alive(taken):
        until = time.monotonic() + 2 * fakes.QUICK.grace
        while time.monotonic() < until:
            other.recover()
            time.sleep(0.1)
    assert tell(study, taken, study.values(taken))


def test_what_kills_every_worker_is_left_alone_and_counts(place: str) -> None:
    study = fakes.study(place)
    for _ in range(ATTEMPTS):
        study.give_back(study.take(1), died=True)
    assert study.finished() == 1
    assert study.take(1) is None


def test_two_workers_share_the_trials_and_one_is_killed(place: str) -> None:
    workers = [started(place, 16, 0.15), started(place, 16, 0.15)]
    study = fakes.study(place)
    while study.finished() < 5:
        time.sleep(0.05)
    workers[0].kill()
    for worker in workers:
        worker.join(60)
    assert workers[1].exitcode == 0
    done = [found for found in study.trials() if found.state.name in ("COMPLETE", "PRUNED")]
    assert len(done) == study.finished() == 16
    assert not any(found.state.name in ("RUNNING", "WAITING") for found in study.trials())
    assert sorted(study.place(found) for found in done) == list(range(16))
    kept = [record["params"] for record in study.records()]
    assert all(guess in kept for guess in study.guesses)


def test_a_study_of_another_search_is_refused(place: str) -> None:
    fakes.study(place)
    with pytest.raises(ConfigError, match="begun with another bound"):
        Study(fakes.open_storage(place), "s", fakes.ROWS, 0, 2, {**fakes.IDENTITY, "bound": 0.02})


def test_a_kind_of_machine_learns_what_another_judged_but_not_its_times(place: str) -> None:
    own, other = fakes.study(place, "n @ a"), fakes.study(place, "n @ b")
    stranger = Study(
        fakes.open_storage(place), "n @ c", fakes.ROWS, 0, 2, {**fakes.IDENTITY, "bound": 0.02}, fakes.QUICK
    )
    for study in (other, stranger):
        one(study)
    (record,) = own.elsewhere("n @ ")
    assert record["drop"] == 0.0
    assert "time" not in record


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up on POSIX only")
def test_a_file_that_is_no_journal_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text("something else\nand more\n")
    with pytest.raises(ConfigError, match="cannot be used as a study's journal"):
        fakes.study(str(path))


def test_no_trial_is_begun_that_would_likely_end_too_late(place: str) -> None:
    study = fakes.study(place)
    taken = study.take(None)
    params = study.values(taken)
    assert study.finish(taken, {**fakes.found(params), "seconds": 120.0}, (1.0, 0.0), 0.0)
    assert not work(lambda *_: pytest.fail("a trial was begun"), Tune(minutes=1, objective="size"), study, Silent())
    assert study.finished() == 1
