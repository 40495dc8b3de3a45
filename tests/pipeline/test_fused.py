"""Models with operators of the runtime's own: what is behind them is optimized as if they were standard ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.model import io
from optimizer.pipeline import prune as pruning
from optimizer.pipeline import quantize as quantization
from optimizer.pipeline.inspect import inspect
from optimizer.recipe import Prune, Quantize, Run
from tests.quantize.nets import build, normal

FUSED = """g (float[1,N,32] x) => (float[1,N,32] y) {
    a = com.microsoft.Attention <num_heads = 4> (x, w, b)  o = MatMul(a, m)
    s = com.microsoft.SkipLayerNormalization(o, x, k, k)
    f = MatMul(s, f1)  g = com.microsoft.BiasGelu(f, c)  y = MatMul(g, f2)
}"""
ARRAYS = {
    "w": normal(32, 96, scale=0.2), "b": normal(96, scale=0.1), "m": normal(32, 32, seed=1, scale=0.2),
    "k": 1 + normal(32, seed=2, scale=0.1), "f1": normal(32, 64, seed=3, scale=0.2), "c": normal(64, seed=4),
    "f2": normal(64, 32, seed=5, scale=0.2),
}  # fmt: skip


@pytest.fixture(params=["float", "float16"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    half = request.param == "float16"
    arrays = {name: array.astype(np.float16) for name, array in ARRAYS.items()} if half else ARRAYS
    model = build(FUSED.replace("float[", f"{request.param}["), arrays, opset=17)
    model.ir_version = 8
    model.opset_imports["com.microsoft"] = 1
    io.save(model, tmp_path / "fused.onnx")
    np.savez(tmp_path / "data.npz", x=normal(16, 8, 32, seed=6).astype(np.float16 if half else np.float32))
    return tmp_path / "fused.onnx"


def run(path: Path) -> Run:
    return Run(data=str(path.with_name("data.npz")))


def test_all_products_around_fused_operators_become_int8(path: Path) -> None:
    result = quantization.quantize(path, Quantize(mode="static", everywhere=True, measure=False), run(path))
    assert sum(node.op == "MatMul" and node.action == "int8" for node in result.nodes) == 6
    assert result.accuracy is not None
    assert result.accuracy.sqnr_db > 25
    ops = [node.op_type for node in io.load(path.with_name("fused.int8.onnx")).graph]
    assert "MultiHeadAttention" in ops


def test_dynamic_ranges_serve_them_too(path: Path) -> None:
    result = quantization.quantize(path, Quantize(mode="dynamic", measure=False), run(path))
    assert sum(node.action == "dynamic" for node in result.nodes) >= 6


def test_neurons_behind_them_are_found_and_removed(path: Path) -> None:
    assert any(group.name.startswith("f1") and group.size == 64 for group in inspect(path).groups)
    result = pruning.prune(path, Prune(sparsity=0.2, measure=False), run(path))
    assert result.params.after < 0.9 * result.params.before
