"""`optimize tune` as a user meets it, on a network that is small enough to search in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.cli.runner import optimize, write_data, write_model

pytest.importorskip("optuna")
SMALL = ("tune", "m.onnx", "--data", "d.npz", "--max-drop", "50%", "--objective", "size", "--cache", "cache")
COMMON = ("tune", "m.onnx", "--data", "d.npz", "--max-drop", "5%", "--cache", "cache")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a search has run. Do not write in it."""
    folder = tmp_path_factory.mktemp("tune")
    write_model(folder / "m.onnx")
    write_data(folder / "d.npz", 40)
    done = optimize(
        *COMMON, "--trials", 3, "--front", "front", "--report", "r.json", "--report", "r.html", folder=folder
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder to search in for the smallest model, which needs no timing."""
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "d.npz", 16)
    return tmp_path


@pytest.fixture
def folder(searched: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(searched, tmp_path / "copy")
    return tmp_path / "copy"


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "r.json").read_text())
    return found


def test_it_writes_a_model_that_is_faster_and_smaller(searched: Path) -> None:
    found = report(searched)
    assert found["latency_ms"]["speedup"] > 1
    assert found["size_bytes"]["after"] == (searched / "m.tuned.onnx").stat().st_size < found["size_bytes"]["before"]


def test_the_table_shows_the_front_and_marks_the_best(searched: Path) -> None:
    text = (searched / "stdout").read_text()
    assert "front" in text
    assert "quantize mode=static" in text


def test_run_makes_the_same_bytes_of_the_recipe(folder: Path) -> None:
    done = optimize("run", "optimize.toml", "--no-measure", "-o", "again.onnx", folder=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "again.onnx").read_bytes() == (folder / "m.tuned.onnx").read_bytes()


def test_every_model_of_the_front_is_written_with_its_recipe(searched: Path) -> None:
    own = sorted((searched / "front").iterdir())
    assert len(own) == len(report(searched)["details"]["front"])
    for place in own:
        onnxruntime.InferenceSession(str(place / "m.onnx"), providers=["CPUExecutionProvider"])
        assert "[[steps]]" in (place / "optimize.toml").read_text()


def test_the_report_has_the_picture_of_the_front(searched: Path) -> None:
    assert "Pareto front" in (searched / "r.html").read_text()


def test_it_goes_on_where_it_was_and_replaces_what_it_wrote(small: Path) -> None:
    for trials in (1, 2):
        done = optimize(*SMALL, "--trials", trials, "--report", "r.json", folder=small)
        assert done.returncode == 0, done.stderr
        assert len(report(small)["details"]["trials"]) == trials


def test_a_model_that_it_did_not_write_is_not_replaced(folder: Path) -> None:
    (folder / "m.tuned.onnx").write_text("mine")
    done = optimize(*COMMON, "--trials", 3, folder=folder)
    assert done.returncode == 2
    assert "m.tuned.onnx exists" in done.stderr
    assert (folder / "m.tuned.onnx").read_text() == "mine"


def test_somebody_elses_configuration_stays_and_the_recipe_gets_a_name_of_its_own(small: Path) -> None:
    (small / "optimize.toml").write_text("seed = 0\n")
    done = optimize(*SMALL, "--trials", 1, folder=small)
    assert done.returncode == 0, done.stderr
    assert (small / "optimize.toml").read_text() == "seed = 0\n"
    assert "optimize run m.tuned.toml makes the model again" in done.stdout
    again = optimize("run", "m.tuned.toml", "-o", "again.onnx", folder=small)
    assert again.returncode == 0, again.stderr
    assert (small / "again.onnx").read_bytes() == (small / "m.tuned.onnx").read_bytes()


def test_its_recipe_tells_other_commands_nothing(searched: Path) -> None:
    done = optimize("quantize", folder=searched)
    assert done.returncode == 2
    assert "no MODEL is given, and optimize.toml names none" in done.stderr


def test_a_bound_that_nothing_keeps_to_exits_1_and_writes_no_model(tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "d.npz", 12)
    done = optimize(
        *COMMON[:4], "--max-drop", "0%", "--metric", "cosine", "--trials", 1, "--cache", "c", folder=tmp_path
    )
    assert done.returncode == 1
    assert "none of 1 trials keeps to --max-drop 0.00%" in done.stderr
    assert not list(tmp_path.glob("m.tuned.onnx"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "m.onnx"), "a search needs real samples"),
        (("tune", "m.onnx", "--data", "few.npz"), "5 samples are too few to search with"),
        (("tune", "m.onnx", "--data", "d.npz", "--trials", "0"), "--trials must be above 0"),
        (("tune", "m.onnx", "--data", "d.npz", "--study", "s"), "give --storage too"),
        (("tune", "m.onnx", "--data", "d.npz", "--metric", "top1"), "the metric top1 needs"),
        (("tune", "m.onnx", "--data", "d.npz", "--storage", "nosuch://host/db"), "--storage cannot be opened"),
        (("tune", "m.onnx", "--data", "d.npz", "--storage", "no/folder/s.journal"), "create no/folder first"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "d.npz", 12)
    write_data(tmp_path / "few.npz", 5)
    done = optimize(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npz", "few.npz", "m.onnx"]


def test_labels_are_what_accuracy_is_judged_by(tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "d.npz", 20, labels=np.zeros(20, np.int64))
    arguments = (*COMMON, "--trials", 1, "--objective", "size", "--max-drop", "100%", "--json")
    done = optimize(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"]["metric"] == "top1"
