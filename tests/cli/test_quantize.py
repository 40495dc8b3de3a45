"""`optimize quantize` as a process: what reaches stdout, stderr and the folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.runner import optimize, process, write_data, write_model

FIGURES = {"size_bytes", "params", "macs", "latency_ms", "accuracy", "nodes", "gates", "warnings", "machine"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    write_model(made / "net.onnx")
    write_data(made / "data.npz", 12)
    return made


def test_json_is_exactly_one_document_on_stdout_with_all_figures(folder: Path) -> None:
    found = process(
        "quantize", "net.onnx", "--data", "data.npz", "--no-measure", "--json", "-o", "json.onnx", folder=folder
    )
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["schema_version"] == 1
    assert set(document) >= FIGURES
    assert document["latency_ms"] is None
    assert document["output"] == "json.onnx"
    assert document["size_bytes"]["after"] == (folder / "json.onnx").stat().st_size
    assert set(document["accuracy"]) >= {"metric", "before", "after", "drop", "agreement", "sqnr_db"}
    assert all(set(node) == {"name", "op", "action", "reason"} for node in document["nodes"])
    assert all(line.startswith("warning: ") for line in found.stderr.splitlines())


def test_the_table_is_plain_text_off_a_terminal_and_names_the_file(folder: Path) -> None:
    found = process("quantize", "net.onnx", "--no-measure", "--samples", "8", "--force", folder=folder)
    assert found.returncode == 0, found.stderr
    for word in ("before", "after", "size", "parameters", "MACs", "wrote net.int8.onnx"):
        assert word in found.stdout
    assert "\x1b" not in found.stdout + found.stderr
    assert "synthetic" in found.stderr
    assert "not timed" in found.stderr


def test_quiet_prints_no_table(folder: Path) -> None:
    found = optimize("quantize", "net.onnx", "--no-measure", "--samples", "8", "--force", "-q", folder=folder)
    assert (found.returncode, found.stdout) == (0, "")


def test_a_missed_bound_is_status_1_with_how_close_the_best_came_and_nothing_written(folder: Path) -> None:
    arguments = (
        "--no-measure",
        "--samples",
        "8",
        "--metric",
        "sqnr",
        "--max-drop",
        "0%",
        "-o",
        "missed.onnx",
        "--json",
        "--report",
        "how_close.xml",
    )
    found = optimize("quantize", "net.onnx", *arguments, folder=folder)
    document = json.loads(found.stdout)
    (gate,) = document["gates"]
    assert (found.returncode, document["output"]) == (1, None)
    assert (gate["condition"], gate["status"]) == ("--max-drop 0.00%", "missed")
    assert document["accuracy"]["drop"] > 0
    assert document["size_bytes"]["after"] < document["size_bytes"]["before"]
    assert "--max-drop 0.00%" in (folder / "how_close.xml").read_text()
    assert len([line for line in found.stderr.splitlines() if line.startswith("optimize: ")]) == 1
    assert "nothing was written" in found.stderr
    assert not [file.name for file in folder.iterdir() if "missed" in file.name]


def test_nothing_to_do_is_status_2_with_a_reason(folder: Path) -> None:
    first = optimize(
        "quantize", "net.onnx", "--mode", "static", "--no-measure", "--samples", "8", "-o", "q.onnx", folder=folder
    )
    assert first.returncode == 0, first.stderr
    found = optimize("quantize", "q.onnx", folder=folder)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("optimize: q.onnx is quantized already")
    assert len(found.stderr.splitlines()) == 1


def test_a_path_with_spaces_and_brackets_is_printed_as_it_is(folder: Path) -> None:
    name = "a [bold] name [red].onnx"
    found = optimize("quantize", "net.onnx", "--no-measure", "--samples", "8", "-o", name, folder=folder)
    assert found.returncode == 0, found.stderr
    assert f"wrote {name}" in found.stdout


def test_answers_that_prove_nothing_are_not_called_equal_without_a_word(folder: Path) -> None:
    np.savez(folder / "dark.npz", image=np.zeros((8, 3, 16, 16), np.float32))
    found = optimize("bench", "net.onnx", "net.onnx", "--data", "dark.npz", "--no-measure", folder=folder)
    assert found.returncode == 0
    assert (
        "warning: the comparison proves nothing: the original gives the same outputs for every sample" in found.stderr
    )
