"""`optimize tune` as a user meets it, on a network that is small enough to search in seconds."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from tests.cli.runner import run, write_data, write_model
from tests.tune import small

pytest.importorskip("optuna")
COMMON = ("tune", "m.onnx", "--data", "d.npz", "--max-drop", "5%", "--cache", "cache")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a search has run. Only new files may be written in it."""
    folder = small.made(tmp_path_factory.mktemp("tune"), 40)
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told):
        small.hasty(patch)
        patch.chdir(folder)
        status = run(*COMMON, "--trials", 2, "--front", "front", "--report", "r.json", "--report", "r.html")
    assert status == 0
    (folder / "stdout").write_text(told.getvalue())
    return folder


@pytest.fixture
def folder(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It as the current folder."""
    monkeypatch.chdir(searched)
    return searched


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
    assert run("run", "optimize.toml", "--no-measure", "-o", "again.onnx") == 0
    assert (folder / "again.onnx").read_bytes() == (folder / "m.tuned.onnx").read_bytes()


def test_every_model_of_the_front_is_written_with_its_recipe(searched: Path) -> None:
    own = sorted((searched / "front").iterdir())
    assert len(own) == len(report(searched)["details"]["front"])
    for place in own:
        onnxruntime.InferenceSession(str(place / "m.onnx"), providers=["CPUExecutionProvider"])
        assert "[[steps]]" in (place / "optimize.toml").read_text()


def test_the_report_has_the_picture_of_the_front(searched: Path) -> None:
    assert "Pareto front" in (searched / "r.html").read_text()


def test_its_recipe_tells_other_commands_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("quantize") == 2
    assert "no MODEL is given, and optimize.toml names none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "m.onnx"), "a search needs real samples"),
        (("tune", "m.onnx", "--data", "few.npz"), "5 samples are too few to search with"),
        (("tune", "m.onnx", "--data", "d.npz", "--trials", "0"), "--trials must be above 0"),
        (("tune", "m.onnx", "--data", "d.npz", "--study", "s"), "give --storage too"),
        (("tune", "m.onnx", "--data", "d.npz", "--metric", "top1"), "the metric top1 needs"),
        (("tune", "m.onnx", "--data", "d.npz", "--storage", "nosuch://host/db"), "--storage cannot be opened"),
        (("tune", "m.onnx", "--data", "d.npz", "--storage", "sqlite:///"), "--storage cannot be opened"),
        (("tune", "m.onnx", "--data", "d.npz", "--storage", "no/folder/s.journal"), "create no/folder first"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "d.npz", 12)
    write_data(tmp_path / "few.npz", 5)
    assert run(*arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npz", "few.npz", "m.onnx"]
