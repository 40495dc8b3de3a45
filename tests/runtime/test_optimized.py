"""The runtime's own graph: what it fused is fused, and it holds its tensors."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.errors import ModelError
from optimizer.runtime.optimized import optimized
from tests.builders import model

CONV = "g (float[1,8,8,8] x, float[8,8,1,1] w) => (float[1,8,8,8] y) { a = Conv(x, w) y = Relu(a) }"


def conv_relu() -> ir.Model:
    built = model(CONV)
    weight = built.graph.inputs.pop()
    weight.const_value = ir.tensor(np.ones((8, 8, 1, 1), np.float32))
    built.graph.register_initializer(weight)
    return built


def test_a_convolution_and_its_relu_become_one_node() -> None:
    ops = [node.op_type for node in optimized(conv_relu()).graph]
    assert "Relu" not in ops
    assert any("Conv" in op for op in ops)


def test_without_optimization_the_graph_stays_as_it_is() -> None:
    assert [node.op_type for node in optimized(conv_relu(), level="none").graph] == ["Conv", "Relu"]


def test_the_tensors_outlive_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = optimized(conv_relu(), level="basic")
    assert not list(tmp_path.iterdir())
    assert sum(v.const_value.numpy().sum() for v in found.graph.initializers.values() if v.const_value) == 64


def test_a_model_that_cannot_be_loaded_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="cannot load"):
        optimized(b"not a model")
