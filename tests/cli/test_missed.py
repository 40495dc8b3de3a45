"""A bound out of reach as pipelines see it: status 1, one line on stderr, and one JSON document that names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.runner import optimize, write_data, write_model

MISSED = {
    "a share of the MACs that must stay": (("prune", "--macs", "0.3", "--align", "48"), "--macs 0.3"),
    "a share of the weights that must stay": (
        ("prune", "--structured", "--sparsity", "0.9", "--align", "48"),
        "--sparsity 0.9",
    ),
    "a drop after pruning": (
        ("prune", "--macs", "0.5", "--max-drop", "0%", "--metric", "sqnr", "--no-repair"),
        "--max-drop 0.00%",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("missed")
    write_model(made / "net.onnx")
    write_data(made / "data.npz", 12)
    return made


@pytest.mark.parametrize(("arguments", "condition"), MISSED.values(), ids=MISSED)
def test_a_missed_bound_is_named_in_the_document(folder: Path, arguments: tuple[str, ...], condition: str) -> None:
    command, *options = arguments
    found = optimize(command, "net.onnx", *options, "--data", "data.npz", "--no-measure", "--json", folder=folder)
    document = json.loads(found.stdout)
    assert (found.returncode, document["command"], document["output"]) == (1, command, None)
    assert [(gate["condition"], gate["status"]) for gate in document["gates"]] == [(condition, "missed")]
    assert document["gates"][0]["message"] in found.stderr
    assert {file.name for file in folder.iterdir()} == {"net.onnx", "data.npz"}


def test_without_a_candidate_no_table_is_printed(folder: Path) -> None:
    found = optimize("prune", "net.onnx", "--macs", "0.3", "--align", "48", "--no-measure", folder=folder)
    assert (found.returncode, found.stdout) == (1, "")
    assert "out of reach" in found.stderr
