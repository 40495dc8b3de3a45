"""A search as processes: Ctrl-C, a kill, and workers that share it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizer.tune.heartbeat import gone
from tests.cli.runner import ROOT
from tests.tune import fakes, small

pytest.importorskip("optuna")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
COMMAND = ("tune", "m.onnx", "--data", "d.npz", "--max-drop", "50%", "--objective", "size", "--cache", "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield small.made(tmp_path)
    assert not (tmp_path / "stderr").exists() or "Traceback" not in (tmp_path / "stderr").read_text()


def begun(folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """`optimize tune` as the leader of a group of processes, as a terminal starts it."""
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "optimizer", *map(str, (*COMMAND, *arguments))], cwd=folder, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=out, stderr=err,
        )  # fmt: skip


def trials(folder: Path) -> list[Any]:
    """The study's trials so far, as another process sees them."""
    from optimizer.tune.storage import open_storage

    path = folder / "m.tuned.study"
    if not path.exists():
        return []
    storage = open_storage(str(path))
    return [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]


def finished(folder: Path) -> int:
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials(folder))


def workers(folder: Path) -> set[str]:
    return {trial.user_attrs["alive"][0] for trial in trials(folder) if "alive" in trial.user_attrs}


def test_ctrl_c_leaves_the_study_prints_the_front_and_writes_the_best(folder: Path) -> None:
    process = begun(folder, "--workers", 2, "--trials", 200, "--report", "r.json")
    fakes.until(lambda: len(workers(folder)) == 2 and finished(folder) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(fakes.PATIENCE) == 0
    told = json.loads((folder / "r.json").read_text())
    assert told["details"]["interrupted"]
    assert len(told["details"]["trials"]) == finished(folder)
    out = (folder / "stdout").read_text()
    assert "interrupted: run the same command to go on" in out
    assert "front" in out
    assert (folder / "m.tuned.onnx").exists()
    assert "[[steps]]" in (folder / "optimize.toml").read_text()
    fakes.until(lambda: all(gone(worker) for worker in workers(folder)))
    assert not [trial for trial in trials(folder) if trial.state.name == "RUNNING"]


def test_helpers_of_a_killed_search_end(folder: Path) -> None:
    process = begun(folder, "--workers", 2, "--trials", 200)
    fakes.until(lambda: len(workers(folder)) == 2)
    process.kill()
    process.wait(fakes.PATIENCE)
    fakes.until(lambda: all(gone(worker) for worker in workers(folder)))


def test_ctrl_c_before_anything_was_found_says_so(folder: Path) -> None:
    process = begun(folder, "--trials", 5)
    fakes.until(lambda: bool(trials(folder)))
    process.send_signal(signal.SIGINT)
    assert process.wait(fakes.PATIENCE) in (0, 1)
    if not finished(folder):
        assert "none of 0 trials" in (folder / "stderr").read_text()
        assert not (folder / "m.tuned.onnx").exists()
