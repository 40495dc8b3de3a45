"""Attribution and errors: layers are recognised under the runtime's names, and errors found where they arise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.bench.attribution import attribute, explaining
from optimizer.bench.errors import by_tensor
from optimizer.bench.layers import Layers
from optimizer.bench.subject import Subject, open_all
from optimizer.bench.yardstick import Peak, peak
from optimizer.model import io
from optimizer.recipe import Run
from optimizer.runtime.profile import NodeTime
from tests.builders import model

NET = """g (float[1,8,16,16] x) => (float[1,8,16,16] y)
    <float[8,8,3,3] w, float[8,8,1,1] v> {{
    a = Conv<pads=[1,1,1,1]>(x, w)
    b = Relu(a)
    c = {middle}
    y = Conv(c, v)
}}"""


def net(middle: str = "Sigmoid(b)") -> ir.Model:
    text = NET.format(middle=middle).replace("<float[8,8,3,3] w, float[8,8,1,1] v>", "")
    text = text.replace("x) =>", "x, float[8,8,3,3] w, float[8,8,1,1] v) =>")
    built = model(text)
    rng = np.random.default_rng(0)
    for weight in (built.graph.inputs.pop(), built.graph.inputs.pop()):
        shape = (8, 8, 1, 1) if weight.name == "v" else (8, 8, 3, 3)
        weight.const_value = ir.tensor(rng.normal(size=shape).astype(np.float32))
        built.graph.register_initializer(weight)
    for node in built.graph:
        node.name = f"{node.op_type}_{node.outputs[0].name}"
    return built


def subjects(folder: Path, *models: ir.Model) -> list[Subject]:
    paths = [folder / f"{i}.onnx" for i in range(len(models))]
    for path, built in zip(paths, models, strict=True):
        io.save(built, path)
    return open_all(paths, Run(samples=4))


@pytest.mark.parametrize(
    ("name", "op_type", "layer"),
    [
        ("Conv_a", "FusedConv", "Conv_a"),
        ("Conv_a_token_12", "QLinearConv", "Conv_a"),
        ("b_nchwc", "Conv", "Conv_a"),
        ("b", "Conv", "Conv_a"),
        ("Sigmoid_c", "Sigmoid", "Sigmoid_c"),
        ("Relu_b", "Relu", "Relu_b"),
        ("ReorderOutput_token_3", "ReorderOutput", "ReorderOutput"),
        ("of nobody", "Mul", "of nobody"),
    ],
)
def test_the_runtimes_names_lead_back_to_the_layer(name: str, op_type: str, layer: str) -> None:
    assert Layers(net(), {}).of(NodeTime(name, op_type, 1.0)).name == layer


def test_macs_are_those_of_the_layer() -> None:
    assert Layers(net(), {}).of(NodeTime("Conv_a", "FusedConv", 1.0)).macs == 16 * 16 * 8 * 8 * 9
    assert Layers(net(), {}).of(NodeTime("Sigmoid_c", "Sigmoid", 1.0)).macs == 0


def test_layers_of_both_models_are_put_side_by_side(tmp_path: Path) -> None:
    first, second = subjects(tmp_path, net(), net("Tanh(b)"))
    found = attribute((first, second), (1.0, 1.0), Peak(1e12, 1e12))
    layers = {layer.name: layer for layer in found.layers}
    convs = [layers["Conv_a"], layers["Conv_y"]]
    assert all(conv.before and conv.after and 0 < (conv.before.peak_share or 0) < 1 for conv in convs)
    assert layers["Sigmoid_c"].after is None
    assert layers["Tanh_c"].before is None
    assert {op.op_type: op.layers for op in found.ops}["Conv"] == (2, 2)
    spent = sum(layer.before.microseconds for layer in found.layers if layer.before) / 1e3
    assert found.total[0] == pytest.approx(spent)


@pytest.mark.parametrize(
    ("sums", "taken", "found"),
    [([104.0], 1, 104.0), ([150.0, 109.0], 2, 109.0), ([150.0, 130.0, 60.0], 3, 130.0)],
)
def test_a_profile_that_was_disturbed_is_taken_again(sums: list[float], taken: int, found: float) -> None:
    left = iter(sums)
    calls: list[float] = []

    def profiled() -> list[NodeTime]:
        calls.append(next(left))
        return [NodeTime("a", "Add", calls[-1])]

    assert [node.microseconds for node in explaining(profiled, 100.0)] == [found]
    assert len(calls) == taken


def test_the_error_begins_where_the_models_differ(tmp_path: Path) -> None:
    first, second = subjects(tmp_path, net(), net("Tanh(b)"))
    found = {error.tensor: error for error in by_tensor(first, second, 1)}
    assert found["b"].sqnr_db == float("inf")
    assert found["c"].sqnr_db < 20
    assert found["y"].sqnr_db < 20


def test_a_quantized_tensor_is_compared_as_the_rest_of_the_graph_sees_it(tmp_path: Path) -> None:
    """The Clip of the baseline is the saturation of the candidate's quantization."""
    head = """g (float[1,64] x) => (float[1,64] y)
        <float k = {3}, float s = {0.0235294}, uint8 z = {0}, float lo = {0}, float hi = {6}>"""
    clipped = head + "{ m = Mul(x, k) a = Clip(m, lo, hi) y = Exp(a) }"
    saturated = head + "{ a = Mul(x, k) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Exp(d) }"
    first, second = subjects(tmp_path, model(clipped), model(saturated))
    found = {error.tensor: error for error in by_tensor(first, second, 1)}
    assert set(found) == {"a", "y"}
    assert all(error.sqnr_db > 30 for error in found.values())


def test_the_machine_multiplies_at_all() -> None:
    found = peak(1)
    assert found.float32 > 1e8
    assert found.int8 > 1e8
