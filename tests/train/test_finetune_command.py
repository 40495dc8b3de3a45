"""`optimize finetune` and `optimize distill` as a user types them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.errors import BoundMissed, ConfigError, OutputError  # noqa: E402
from optimizer.model import io  # noqa: E402
from optimizer.pipeline.finetune import finetune  # noqa: E402
from optimizer.recipe import Finetune, Run  # noqa: E402
from tests.train.learning import damaged, network  # noqa: E402

QUICK = Finetune(epochs=20, lr=1e-2, batch=16, augment="none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    teacher = network()
    io.save(teacher, tmp_path / "teacher.onnx")
    io.save(damaged(teacher), tmp_path / "student.onnx")
    rows = np.random.default_rng(0).normal(0, 1, (64, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=rows, labels=np.arange(64) % 4)
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "optimizer", *arguments, "--data", "data.npz", "--threads", "1", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def run(folder: Path) -> Run:
    return Run(data=str(folder / "data.npz"))


def test_the_result_is_written_beside_the_student_with_its_figures(folder: Path) -> None:
    result = finetune(folder / "student.onnx", folder / "teacher.onnx", QUICK, run(folder))
    assert result.output == str(folder / "student.finetuned.onnx")
    assert (folder / "student.finetuned.onnx").exists()
    assert result.accuracy is not None
    assert result.accuracy.sqnr_db > 5
    assert result.details["loss"]["after"] < result.details["loss"]["before"]
    assert result.params.before == result.params.after
    assert io.load(folder / "student.finetuned.onnx").metadata_props["optimize.command"] == "finetune"


def test_a_killed_run_resumes_to_what_it_would_have_been(folder: Path) -> None:
    step = Finetune(epochs=60, lr=1e-2, batch=16, augment="noise=0.1", patience=1000)
    options = ["--epochs=60", "--lr=1e-2", "--batch=16", "--augment=noise=0.1", "--patience=1000", "-o", "killed.onnx"]
    killed = start(folder, "distill", "teacher.onnx", "student.onnx", *options)
    mark = folder / "killed.onnx.checkpoint.npz"
    deadline = time.monotonic() + 120
    while not mark.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert finished(killed)[0] == -signal.SIGKILL
    assert mark.exists()
    assert not (folder / "killed.onnx").exists()
    code, _, err = finished(start(folder, "distill", "teacher.onnx", "student.onnx", *options, "--resume"))
    assert (code, err) == (0, "")
    where = Run(data=str(folder / "data.npz"), threads=1)
    finetune(
        folder / "student.onnx", folder / "teacher.onnx", step, where, output=folder / "whole.onnx", command="distill"
    )
    assert (folder / "killed.onnx").read_bytes() == (folder / "whole.onnx").read_bytes()
    assert not mark.exists()


def test_a_refusal_is_one_line_and_exit_status_1(folder: Path) -> None:
    code, out, err = finished(start(folder, "finetune", "teacher.onnx", "--teacher", "teacher.onnx", "-o", "no.onnx"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "nothing to win back" in err
    assert not list(folder.glob("no*"))


def test_nothing_is_begun_without_data_or_where_nothing_may_be_written(folder: Path) -> None:
    student, teacher = folder / "student.onnx", folder / "teacher.onnx"
    with pytest.raises(ConfigError, match="--data"):
        finetune(student, teacher, QUICK, Run())
    with pytest.raises(OutputError, match="--force"):
        finetune(student, teacher, QUICK, run(folder), output=teacher)


def test_a_refused_run_leaves_nothing_behind(folder: Path) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(BoundMissed):
        finetune(folder / "teacher.onnx", folder / "teacher.onnx", QUICK, run(folder))
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("lr", -1.0), ("holdout", 1.0), ("temperature", 0.0)])
def test_a_setting_that_makes_no_sense_is_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        Finetune(**{field: value})
