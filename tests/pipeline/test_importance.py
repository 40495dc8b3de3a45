"""What `inspect --importance` says: what matters more scores higher, with data and without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from optimizer.cli.app import app
from optimizer.model import io
from optimizer.pipeline.importance import importance
from optimizer.recipe import Run
from tests.choice.test_repair import TOKENS, net, samples


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Run]:
    """Two layers of neurons; the first three of the first hardly reach the second."""
    model = net(TOKENS)
    value = model.graph.initializers["w2"]
    assert value.const_value is not None
    weight = value.const_value.numpy().copy()
    weight[:3] *= 1e-3
    value.const_value = ir.tensor(weight, name="w2")
    io.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate([feed["x"] for feed in samples(model, 0)[:48]]))
    return tmp_path / "net.onnx", Run(data=str(tmp_path / "data.npz"))


def test_labels_that_hardly_reach_anything_score_least(given: tuple[Path, Run]) -> None:
    found = importance(*given)
    group = next(group for group in found.groups if len(group.scores) == 32)
    assert found.measured and set(np.argsort(group.scores)[:3].tolist()) == {0, 1, 2}
    assert group.costs[0] < group.costs[1] < group.costs[2]


def test_without_data_scores_are_by_size_and_say_so(given: tuple[Path, Run]) -> None:
    found = importance(given[0])
    assert not found.measured and found.criterion == "magnitude" and len(found.groups) == 2


def test_the_command_gives_a_table_and_json(given: tuple[Path, Run]) -> None:
    path, run = given
    command = ["inspect", str(path), "--importance", "--data", str(run.data)]
    table, plain = CliRunner().invoke(app, command), CliRunner().invoke(app, [*command, "--json"])
    assert table.exit_code == 0 and "█" in table.stdout
    groups = json.loads(plain.stdout)["importance"]["groups"]
    assert sorted(len(group["scores"]) for group in groups) == [16, 32]
