"""Commands without arguments: the configuration in the current folder says what is missing, and flags win over it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optimizer.cli import app as application
from optimizer.cli.given import _PARAMETERS
from optimizer.recipe import Prune, Quantize, Run, parse
from optimizer.recipe.toml import STEPS
from tests.cli.runner import run, write_data, write_model

CONFIG = """
model = "net.onnx"
data = "data.npz"
seed = 3
output = "small.onnx"
[quantize]
mode = "weights"
measure = false
[prune]
macs = 0.6
align = 1
measure = false
[bench]
runs = 2
[[steps]]
do = "quantize"
measure = false
[[steps]]
do = "bench"
fail-if = ["size > 0.9x", "latency > 100x"]
time-budget = 4
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_model(folder / "net.onnx")
    write_data(folder / "data.npz", 16, labels=np.arange(16) % 4)
    (folder / "optimize.toml").write_text(CONFIG)
    return folder


@pytest.fixture(autouse=True)
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def done(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    """The document of a command that ended with `status`."""
    found = run(*arguments, "--json")
    captured = capsys.readouterr()
    assert found == status, captured.err
    return json.loads(captured.out)


def made_by(path: str) -> Any:
    (step,) = parse({entry.key: entry.value for entry in onnx.load(path).metadata_props}["optimize.recipe"])
    return step


def test_quantize_takes_model_data_and_options_from_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    found = done(capsys, "quantize")
    assert found["output"] == "net.int8.onnx"
    assert not found["accuracy"]["synthetic"]
    assert made_by("net.int8.onnx") == Quantize(mode="weights", measure=False)
    metadata = {entry.key: entry.value for entry in onnx.load("net.int8.onnx").metadata_props}
    assert metadata["optimize.seed"] == "3"


def test_flags_win_over_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    done(capsys, "quantize", "--mode", "auto", "--recover", "none", "-o", "b.onnx")
    assert made_by("b.onnx") == Quantize(recover="none", measure=False)


def test_a_target_on_the_command_line_takes_the_place_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    done(capsys, "prune", "--sparsity", "0.4")
    assert made_by("net.pruned.onnx") == Prune(sparsity=0.4, align=1, measure=False)
    done(capsys, "prune", "--force")
    assert made_by("net.pruned.onnx") == Prune(macs=0.6, align=1, measure=False)


def test_bench_compares_the_model_with_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("net.onnx", "small.onnx")
    found = done(capsys, "bench")
    assert (found["input"], found["output"]) == ("net.onnx", "small.onnx")
    assert found["latency_ms"]["pairs"] <= 4
    assert done(capsys, "bench", "small.onnx")["input"] == "small.onnx"


def test_bench_against_an_earlier_run_takes_the_last_model_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("net.onnx", "small.onnx")
    done(capsys, "bench", "--save-baseline", "kept.json")
    assert done(capsys, "bench", "--baseline", "kept.json")["output"] == "small.onnx"


def test_run_carries_out_the_steps_and_writes_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    found = done(capsys, "run", "--report", "r.md")
    assert [step["command"] for step in found["details"]["steps"]] == ["quantize", "bench"]
    assert {gate["status"] for gate in found["gates"]} == {"passed"}
    assert found["latency_ms"]["pairs"] > 0
    assert Path("small.onnx").exists()
    assert "size" in Path("r.md").read_text()


def test_run_takes_another_recipe_model_and_output(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.toml").write_text('[[steps]]\ndo = "quantize"\nmode = "weights"')
    arguments = ("run", "other.toml", "--model", "net.onnx", "-o", "a.onnx", "--no-measure", "--samples", 8)
    assert done(capsys, *arguments)["latency_ms"] is None
    assert made_by("a.onnx") == Quantize(mode="weights", measure=False)


def test_a_missed_gate_of_run_is_status_1_reported_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("optimize.toml").write_text(CONFIG.replace("0.9x", "0.01x"))
    assert run("run", "--json", "--report", "r.json") == 1
    captured = capsys.readouterr()
    assert "optimize: step 2 (bench): gate missed: size > 0.01x" in captured.err
    assert json.loads(captured.out) == json.loads(Path("r.json").read_text())
    assert [gate["status"] for gate in json.loads(captured.out)["gates"]] == ["missed", "passed"]
    assert not Path("small.onnx").exists()


REFUSED = {
    "no model": ("", ("quantize",), "no MODEL is given, and optimize.toml names none"),
    "no steps": ('model = "net.onnx"', ("run",), "optimize.toml has no steps"),
    "a wrong key": ("[bench]\nrnus = 2", ("quantize", "net.onnx"), "unknown key 'rnus'; the nearest there is 'runs'"),
    "two recipes": ("", ("run", "a.toml", "--config", "b.toml"), "give RECIPE or --config"),
    "a wrong key of tune": ('[tune]\ntrails = 2', ("tune", "net.onnx"), "tune: unknown key 'trails'"),
    "a wrong value of tune": ('[tune]\nmax-drop = 2.0', ("tune", "net.onnx"), "--max-drop must lie between"),
    "an absent file": ("", ("quantize", "--config", "absent.toml"), "absent.toml: cannot be read"),
    "no target": ('model = "net.onnx"', ("prune",), "give one target"),
    "too few samples": ('model = "net.onnx"\nsamples = 0', ("quantize",), "samples must be at least 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_file_lacks_or_spoils_is_told_in_one_line(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, arguments, told = REFUSED[kind]
    Path("optimize.toml").write_text(source)
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1


def test_without_a_file_the_model_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Path("optimize.toml").unlink()
    assert run("quantize") == 2
    assert "there is no optimize.toml here: name one, e.g. optimize quantize model.onnx" in capsys.readouterr().err


def test_help_is_there_even_where_the_file_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    Path("optimize.toml").write_text("[[[")
    assert run("quantize", "--help") == 0


@pytest.mark.parametrize("command", STEPS)
def test_every_field_of_a_step_is_an_option_of_its_command(command: str) -> None:
    function = next(c.callback for c in application.app.registered_commands if c.name == command)
    assert function is not None
    options = set(inspect.signature(function).parameters)
    fields = [field.name for kind in (STEPS[command], Run) for field in dataclasses.fields(kind)]
    own = {"images", "held_back", "placed", "plain"} | ({"dim"} if command == "finetune" else set())
    assert {_PARAMETERS.get(name, name) for name in fields} - options <= own
