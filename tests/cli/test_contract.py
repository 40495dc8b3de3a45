"""What scripts depend on: exit statuses, one line on stderr, nothing left behind, one JSON document, a quick --help."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from optimizer.cli import app as application
from optimizer.errors import OptimizeError
from tests.cli.runner import ROOT, process, run, write_data, write_model
from tests.quantize.nets import normal

COMMANDS = list(application.COMMANDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_model(folder / "net.onnx")
    write_data(folder / "good.npz")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a refusal is; checks the status, and that the folder is as it was."""
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    status = run(*arguments)
    captured = capsys.readouterr()
    assert status == 2, captured.err
    assert captured.out == ""
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    lines = [line for line in captured.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("optimize: ")
    return lines[0]


BAD_MODELS = {
    "a truncated file": lambda path: path.write_bytes(path.read_bytes()[:700]),
    "a text file": lambda path: path.write_text("this is no model\n" * 50),
    "an empty file": lambda path: path.write_bytes(b""),
    "random bytes": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "a missing file": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
@pytest.mark.parametrize("command", ["quantize", "bench"])
def test_what_is_no_model_is_refused_in_one_line_that_names_it(
    kind: str, command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BAD_MODELS[kind](folder / "net.onnx")
    assert "net.onnx" in refused(folder, capsys, command, folder / "net.onnx")


def test_a_model_that_the_runtime_cannot_run_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = onnx.load(folder / "net.onnx")
    proto.graph.node[0].op_type = "NoSuchOp"
    onnx.save(proto, folder / "net.onnx")
    assert "NoSuchOp" in refused(folder, capsys, "quantize", folder / "net.onnx")


BAD_DATA = {
    "a name that is no input": ({"picture": normal(8, 3, 16, 16)}, "'image'"),
    "a missing input": ({"labels": np.zeros(8, np.int64)}, "'image'"),
    "an extra array": ({"image": normal(8, 3, 16, 16), "more": normal(8)}, "'more'"),
    "the wrong size": ({"image": normal(8, 3, 9, 16)}, "(N, 3, 16, 16)"),
    "the wrong rank": ({"image": normal(8, 3, 256)}, "image"),
    "texts": ({"image": np.full((8, 3, 16, 16), "one")}, "image"),
    "complex numbers": ({"image": normal(8, 3, 16, 16).astype(complex)}, "image"),
    "no samples": ({"image": normal(0, 3, 16, 16)}, "sample"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that_does_not_fit_is_refused_in_one_line_that_says_what_would(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, told = BAD_DATA[kind]
    np.savez(folder / "bad.npz", **arrays)  # type: ignore[arg-type]
    assert told in refused(folder, capsys, "quantize", folder / "net.onnx", "--data", folder / "bad.npz")


def test_data_with_pickles_is_refused_and_never_unpickled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "bad.npz", image=np.array([{"a": 1}], object))
    assert "bad.npz" in refused(folder, capsys, "quantize", folder / "net.onnx", "--data", folder / "bad.npz")


@pytest.mark.parametrize("name", ["absent.npz", "truncated.npz", "text.npz", "net.onnx", "no.such.module:function"])
def test_data_that_cannot_be_read_is_refused(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "truncated.npz").write_bytes((folder / "good.npz").read_bytes()[:2000])
    (folder / "text.npz").write_text("no arrays")
    spec = name if ":" in name else folder / name
    assert name.split(":")[0] in refused(folder, capsys, "quantize", folder / "net.onnx", "--data", spec)


BAD_USAGE = {
    "a bound beyond all": ("--max-drop", "120%"),
    "a bound that is no number": ("--max-drop", "little"),
    "a bound below zero": ("--max-drop", "-0.1"),
    "a bound that is not a number": ("--max-drop", "nan"),
    "a metric that is none": ("--metric", "beauty"),
    "a metric without its module": ("--metric", "no_such_module:f"),
    "a size without a name": ("--dim", "8"),
}


@pytest.mark.parametrize("kind", BAD_USAGE)
def test_an_option_that_makes_no_sense_is_refused_in_one_line(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(folder, capsys, "quantize", folder / "net.onnx", "--no-measure", *BAD_USAGE[kind])


UNKNOWN = [
    ("quantize", "net.onnx", "--frobnicate"), ("quantize", "net.onnx", "--mode", "loud"),
    ("quantize", "net.onnx", "--calibration", "none"), ("quantize", "net.onnx", "--samples", "0"),
    ("quantize", "net.onnx", "--samples", "many"), ("quantize", "net.onnx", "--threads", "0"), ("frobnicate",),
    ("quantize", "net.onnx", "other.onnx"), ("bench", "--no-such-option"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", UNKNOWN, ids=" ".join)
def test_usage_errors_are_status_2_and_name_the_culprit(
    arguments: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert "Error" in captured.err
    assert sorted(folder.iterdir()) == before


def test_a_folder_that_does_not_exist_is_refused_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "absent" / "out.onnx"
    assert str(folder / "absent") in refused(folder, capsys, "quantize", folder / "net.onnx", "-o", target)


def test_an_output_that_exists_needs_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "net.int8.onnx").write_text("precious")
    assert "--force" in refused(folder, capsys, "quantize", folder / "net.onnx", "--no-measure")
    assert (folder / "net.int8.onnx").read_text() == "precious"


def test_an_output_that_is_a_folder_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").mkdir()
    refused(folder, capsys, "quantize", folder / "net.onnx", "--force", "-o", folder / "out")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "locked").mkdir(mode=0o500)
    refused(folder, capsys, "quantize", folder / "net.onnx", "-o", folder / "locked" / "out.onnx")


def test_a_folder_that_refuses_the_write_is_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == folder and mode == os.W_OK))
    assert "not writable" in refused(folder, capsys, "quantize", folder / "net.onnx")


def test_our_own_fault_is_status_3_without_a_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by mistake")

    monkeypatch.setattr("optimizer.model.io.load", fail)
    assert run("quantize", folder / "net.onnx") == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "internal error: ZeroDivisionError: by mistake" in captured.err
    assert "report" in captured.err
    assert "Traceback" not in captured.err


def test_an_interrupt_is_status_130(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("optimizer.model.io.load", interrupt)
    assert run("quantize", folder / "net.onnx") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_every_exception_of_ours_knows_its_status() -> None:
    from optimizer import errors

    ours = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OptimizeError)]
    assert {kind.__name__: kind.exit_code for kind in ours} == {
        "OptimizeError": 3, "BoundMissed": 1, "UserError": 2, "ModelError": 2, "DataError": 2, "ConfigError": 2,
        "OutputError": 2, "MissingExtra": 2, "NothingToDo": 2,
    }  # fmt: skip


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_is_written_for_every_command(command: list[str]) -> None:
    found = CliRunner().invoke(application.app, [*command, "--help"])
    assert found.exit_code == 0
    assert "Usage" in found.output
    assert not re.search(r"\w\.\.\.$", found.output, re.MULTILINE), "a line is cut"
    assert "range>" not in found.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_common_options(command: str) -> None:
    callback = application.COMMANDS[command]
    found = set(inspect.signature(callback).parameters)
    assert found >= {"as_json", "quiet", "config"}
    if command != "inspect":
        assert "report" in found
    if command not in ("bench", "inspect"):
        assert found >= {"output", "force", "data", "samples", "seed", "threads"}


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert version("optimize-onnx") in CliRunner().invoke(application.app, ["--version"]).output


EARLY = (
    "quantize",
    "prune --macs 0.5",
    "finetune --teacher t.onnx",
    "distill t.onnx",
    "tune",
    "bench",
    "run steps.toml",
)


@pytest.mark.parametrize("command", EARLY)
def test_a_metric_that_is_none_is_told_before_anything_is_read(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("steps.toml").write_text('[[steps]]\ndo = "prune"\nmacs = 0.5\nmetric = "beauty"\n')
    name, *options = command.split()
    given = ["--model", "absent.onnx"] if name == "run" else ["absent.onnx", "--metric", "beauty"]
    told = refused(tmp_path, capsys, name, *options, *given, "--data", "absent.npz")
    assert "unknown metric 'beauty'" in told


def test_help_answers_in_a_moment() -> None:
    """It loads what reads the command line and nothing that computes, whose loading takes ten times as long."""
    heavy = ("numpy", "onnx", "onnx_ir", "onnxruntime", "optuna", "rich", "torch")
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "optimizer", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    loaded = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "optimizer.cli.app" in loaded
    assert not loaded.intersection(heavy)


def test_the_module_is_the_command(folder: Path) -> None:
    found = process("quantize", "absent.onnx", folder=folder)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "optimize: absent.onnx: no such file\n"
