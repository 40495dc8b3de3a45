"""The benchmark as a whole: results, gates, earlier runs, and the command line's exit statuses and outputs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest

from optimizer.bench.compare import bench
from optimizer.cli import app
from optimizer.errors import ConfigError, UserError
from optimizer.model import io
from optimizer.recipe import Bench, Run
from optimizer.report.schema import schema
from tests.bench.models import chain
from tests.builders import model
from tests.report.schema import violations

QUICK = Bench(runs=2)
FEW = Run(samples=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.onnx`, and `b.onnx` which does three times as much."""
    path = tmp_path_factory.mktemp("models")
    io.save(chain(20), path / "a.onnx")
    io.save(chain(60), path / "b.onnx")
    return path


def test_a_candidate_gets_a_result_with_every_figure(folder: Path) -> None:
    (found,) = bench(folder / "a.onnx", [folder / "b.onnx"], Bench(memory=True, time_budget=5), FEW)
    assert found.latency_ms is not None
    assert found.latency_ms.verdict == "slower"
    assert 0.25 < found.latency_ms.speedup < 0.45
    assert found.latency_ms.ci95[0] < found.latency_ms.speedup < found.latency_ms.ci95[1]
    assert (found.macs.before, found.macs.after) == (20 * 64**3, 60 * 64**3)
    assert found.params.before == found.params.after == 64 * 64
    assert found.accuracy is not None
    assert found.accuracy.synthetic
    assert found.memory_bytes is not None
    assert any("synthetic" in warning for warning in found.warnings)
    assert found.throughput is not None
    assert found.throughput.before > found.throughput.after


def test_several_candidates_get_a_result_each(folder: Path) -> None:
    found = bench(folder / "a.onnx", [folder / "b.onnx", folder / "a.onnx"], QUICK, FEW)
    assert [Path(result.output or "").name for result in found] == ["b.onnx", "a.onnx"]
    assert found[0].latency_ms is not None and found[1].latency_ms is not None
    assert found[0].latency_ms.speedup < found[1].latency_ms.speedup


def test_a_model_alone_is_compared_with_itself(folder: Path) -> None:
    (found,) = bench(folder / "a.onnx", [], QUICK, FEW)
    assert found.input == found.output
    assert found.accuracy is None
    assert found.latency_ms is not None
    assert found.latency_ms.verdict == "inconclusive"


def test_gates_are_judged_on_what_was_measured(folder: Path) -> None:
    wanted = ("latency > 1.5x", "size > 1MB", "macs > 2x", "agreement < 50%", "load > 100s", "p99 > 100s")
    (found,) = bench(folder / "a.onnx", [folder / "b.onnx"], Bench(fail_if=wanted, time_budget=5), FEW)
    statuses = {gate.condition: gate.status for gate in found.gates}
    assert statuses == {
        "latency > 1.5x": "missed",
        "size > 1MB": "passed",
        "macs > 2x": "missed",
        "agreement < 50%": "passed",
        "load > 100s": "passed",
        "p99 > 100s": "passed",
    }


def test_an_earlier_run_takes_the_baselines_place_and_another_machine_is_warned_of(
    folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    bench(folder / "a.onnx", [], Bench(save_baseline=kept, time_budget=5), FEW)
    fields = json.loads(kept.read_text())
    fields["machine"]["cpu"] = "Another CPU"
    kept.write_text(json.dumps(fields))
    settings = Bench(baseline=kept, time_budget=5, fail_if=("latency > 1.5x", "macs > 4x", "p50 > 100s"))
    (found,) = bench(folder / "b.onnx", [], settings, FEW)
    assert found.latency_ms is not None
    assert found.latency_ms.verdict == "slower"
    assert 0.2 < found.latency_ms.speedup < 0.5
    assert (found.macs.before, found.macs.after) == (20 * 64**3, 60 * 64**3)
    assert [gate.status for gate in found.gates] == ["missed", "passed", "passed"]
    assert "earlier run" in found.input
    assert any("earlier run's cpu was Another CPU" in warning for warning in found.warnings)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "other"}', "not json"])
def test_a_file_that_is_no_earlier_run_is_refused(text: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text(text)
    with pytest.raises(ConfigError, match="no file that --save-baseline wrote"):
        bench(folder / "a.onnx", [], Bench(baseline=tmp_path / "kept.json"))


def test_batches_need_an_open_batch_axis(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch size is fixed; leave out --batch 4"):
        bench(folder / "a.onnx", [], Bench(batch=4))
    io.save(model("g (float[N,8] x) => (float[N,8] y) { y = Relu(x) }"), tmp_path / "open.onnx")
    (found,) = bench(tmp_path / "open.onnx", [], Bench(batch=4, runs=2), FEW)
    assert found.throughput is not None and found.latency_ms is not None
    assert found.throughput.after == pytest.approx(4e3 / found.latency_ms.after.p50, rel=0.5)


def test_a_candidate_with_other_inputs_is_refused(folder: Path, tmp_path: Path) -> None:
    io.save(model("g (float[3] other) => (float[3] y) { y = Relu(other) }"), tmp_path / "c.onnx")
    with pytest.raises(UserError):
        bench(folder / "a.onnx", [tmp_path / "c.onnx"], QUICK, FEW)


@pytest.mark.parametrize("field", ["batch", "concurrency", "runs", "time_budget"])
def test_settings_that_make_no_sense_are_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=f"--{field.replace('_', '-')} must be above 0, not -1"):
        Bench(**{field: -1})  # type: ignore[arg-type]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def optimize(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `optimize bench` with these arguments."""

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["optimize", "bench", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            app.run()
        return Done(int(stopped.value.code or 0), *capsys.readouterr())

    return run


def test_json_is_one_document_that_the_schema_knows(folder: Path, optimize: Callable[..., Done]) -> None:
    done = optimize(folder / "a.onnx", folder / "b.onnx", "--json", "--runs", "2", "--samples", "2", "--per-op")
    assert done.returncode == 0
    found, known = json.loads(done.stdout), schema()
    assert list(violations(found, known, known)) == []
    assert found["latency_ms"]["verdict"] in ("faster", "slower", "inconclusive")
    assert found["details"]["per_op"]["ops"][0]["op_type"] == "MatMul"
    assert found["details"]["error_by_tensor"]
    assert "synthetic" in done.stderr


def test_a_missed_gate_is_status_1_and_named(folder: Path, tmp_path: Path, optimize: Callable[..., Done]) -> None:
    reports = [tmp_path / f"r{suffix}" for suffix in (".xml", ".md", ".json")]
    flags = [flag for report in reports for flag in ("--report", report)]
    done = optimize(
        folder / "a.onnx", folder / "b.onnx", "--fail-if", "macs > 2x", "--runs", "2", "--samples", "2", *flags
    )
    assert done.returncode == 1
    assert "gate missed: macs > 2x: macs is 3.000x" in done.stderr
    assert "latency p50" in done.stdout
    assert ElementTree.parse(reports[0]).getroot().get("failures") == "1"
    assert all(report.exists() for report in reports)


def test_an_undecided_gate_fails_with_its_own_message(folder: Path, optimize: Callable[..., Done]) -> None:
    flags = ("--fail-if", "latency > 1x", "--runs", "4", "--samples", "2", "-q")
    failed = optimize(folder / "a.onnx", folder / "a.onnx", *flags)
    assert failed.returncode == 1
    assert "gate inconclusive: latency > 1x" in failed.stderr
    assert failed.stdout == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fail-if", "speed > 1"], "no metric 'speed'"),
        (["--runs", "few"], "--runs 'few': give a whole number above 0, or auto"),
        (["--report", "r.pdf"], "must end in one of"),
        (["--metric", "f1"], "unknown metric 'f1'"),
        (["--baseline", "nowhere.json"], "takes the place of the baseline"),
        (["--data", "nowhere.npz"], "no such file"),
        (["--dim", "batch"], "write it as NAME=N"),
    ],
)
def test_bad_usage_is_status_2_and_one_line(
    flags: list[str], message: str, folder: Path, optimize: Callable[..., Done]
) -> None:
    done = optimize(folder / "a.onnx", folder / "b.onnx", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("warning")]) == 1
    assert done.stdout == ""


def test_real_labels_give_top1(tmp_path: Path) -> None:
    io.save(model("g (float[1,3] x) => (float[1,3] y) { y = Identity(x) }"), tmp_path / "same.onnx")
    io.save(model("g (float[1,3] x) => (float[1,3] y) { y = Neg(x) }"), tmp_path / "neg.onnx")
    rows = np.eye(3, dtype=np.float32)
    np.savez(tmp_path / "d.npz", x=rows, labels=np.arange(3))
    (found,) = bench(
        tmp_path / "same.onnx",
        [tmp_path / "neg.onnx"],
        Bench(runs=2, fail_if=("drop > 1%", "accuracy < 99%")),
        Run(data=str(tmp_path / "d.npz")),
    )
    assert found.accuracy is not None
    assert (found.accuracy.metric, found.accuracy.before, found.accuracy.after) == ("top1", 1, 0)
    assert [gate.status for gate in found.gates] == ["missed", "missed"]


def test_answers_that_are_equal_for_every_sample_are_doubted_in_a_timed_comparison_too(tmp_path: Path) -> None:
    io.save(model("g (float[1,3] x) => (float[1,3] y) { y = Identity(x) }"), tmp_path / "same.onnx")
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 3), np.float32))
    (found,) = bench(tmp_path / "same.onnx", [tmp_path / "same.onnx"], QUICK, Run(data=str(tmp_path / "d.npz")))
    assert any("the comparison proves nothing" in warning for warning in found.warnings)
