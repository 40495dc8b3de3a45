"""`optimize inspect` as a user reads it: groups, reasons gathered, what to do about norms, one line for bad files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimizer.model import io
from tests.cli.runner import optimize
from tests.prune.test_groups import TWO_CONVS, model
from tests.prune.test_proof import NORM


def saved(folder: Path, text: str, **weights: tuple[int, ...]) -> str:
    io.save(model(text, **weights), folder / "m.onnx")
    return str(folder / "m.onnx")


def test_groups_are_listed_with_what_they_tie_and_frozen_axes_by_reason(tmp_path: Path) -> None:
    found = optimize("inspect", saved(tmp_path, TWO_CONVS, w=(4, 3, 3, 3), b=(4,), v=(5, 4, 1, 1)), folder=tmp_path)
    assert found.returncode == 0
    assert "w.0, b.0, v.1" in found.stdout
    assert "graph input 'x'" in found.stdout
    assert "--lossy" not in found.stdout


def test_where_norms_hold_axes_the_option_that_frees_them_is_named(tmp_path: Path) -> None:
    found = optimize("inspect", saved(tmp_path, NORM, w=(6, 16), s=(16,), b=(16,), v=(16, 4)), folder=tmp_path)
    assert "no channel, head or neuron can go" in found.stdout
    assert "optimize prune --lossy" in found.stdout


def test_json_is_one_document_with_every_frozen_axis(tmp_path: Path) -> None:
    found = optimize(
        "inspect", saved(tmp_path, NORM, w=(6, 16), s=(16,), b=(16,), v=(16, 4)), "--json", folder=tmp_path
    )
    assert [frozen["tensor"] for frozen in json.loads(found.stdout)["frozen"]] == ["w", "w", "s", "b", "v", "v"]


def test_a_report_shows_what_groups_are_worth_and_escapes_what_is_in_the_model(tmp_path: Path) -> None:
    name = saved(tmp_path, TWO_CONVS, w=(4, 3, 3, 3), b=(4,), v=(5, 4, 1, 1))
    found = io.load(Path(name))
    value = found.graph.initializers["w"]
    value.name = "<b>w</b>"
    io.save(found, Path(name), force=True)
    reports = ["--report", "r.html", "--report", "r.md"]
    assert optimize("inspect", name, "--importance", *reports, folder=tmp_path).returncode == 0
    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert page.count("<svg") == 2 and "<b>w" not in page and "&lt;b&gt;w" in page
    assert "What half of a group costs" in page and "axes are frozen" in page
    assert "by magnitude, without data" in text and "| ties together |" in text


@pytest.mark.parametrize("report", ["r.xml", "nowhere/r.md"])
def test_a_report_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, report: str) -> None:
    found = optimize("inspect", str(tmp_path / "m.onnx"), "--report", report, folder=tmp_path)
    assert found.returncode == 2
    assert "--report" in found.stderr and "m.onnx" not in found.stderr


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("hello")
    found = optimize("inspect", str(tmp_path / "m.onnx"), folder=tmp_path)
    assert found.returncode == 2
    assert len(found.stderr.strip().splitlines()) == 1
