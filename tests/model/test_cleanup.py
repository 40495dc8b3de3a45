"""Cleaning whole models: same answers in ONNX Runtime, same ports, same bytes each time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optimizer.model import cleanup, cost, io, ports
from optimizer.runtime.session import open_session
from tests.builders import model
from tests.model.passes.numbers import assert_same, build, ops

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
ZOO = Path(os.environ.get("ZOO_DIR", Path.home() / ".cache" / "optimize-zoo"))
SIZES = {"batch": 2, "sequence": 16, "height": 224, "width": 224, "p2o.DynamicDimension.1": 320}
SHAPES = {"silero_vad": {"input": (1, 512), "state": (2, 1, 128)}, "ppocr_cls": {"x": (2, 3, 48, 192)}}
RTOL = 1e-4


def feed(net: ir.Model, name: str) -> dict[str, np.ndarray]:
    samples = ZOO / f"{name}.calib.npz"
    if samples.exists():
        with np.load(samples) as arrays:
            return {port.name: arrays[port.name][:2] for port in ports.inputs(net)}
    return {port.name: _synthetic(port, name) for port in ports.inputs(net)}


def _synthetic(port: ports.Port, name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    given = SHAPES.get(name, {}).get(port.name)
    shape = given or tuple(dim if isinstance(dim, int) else SIZES.get(str(dim), 2) for dim in port.shape)
    if port.name in ("sr", "lengths"):
        return np.full(shape, {"sr": 16000, "lengths": 5}[port.name], port.dtype)
    if port.dtype.kind == "f":
        return rng.standard_normal(shape).astype(port.dtype)
    return rng.integers(0, 20, shape).astype(port.dtype)


def assert_cleaned_like_before(path: Path) -> ir.Model:
    before, after = io.load(path), io.load(path)
    lines = cleanup.clean(after)
    assert all("{" not in line and "\n" not in line for line in lines)
    assert [port.name for port in ports.inputs(before)] == [port.name for port in ports.inputs(after)]
    assert [(port.name, port.dtype) for port in ports.outputs(before)] == [
        (port.name, port.dtype) for port in ports.outputs(after)
    ]
    onnx.checker.check_model(io.to_proto(after))
    inputs = feed(before, path.stem)
    for want, got in zip(open_session(path).run(inputs), open_session(after).run(inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=RTOL * max(1e-6, float(np.abs(want).max(initial=0))))
    again = io.load(path)
    assert cleanup.clean(again) == lines
    assert io.to_bytes(again) == io.to_bytes(after)
    return after


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "bvlc_alexnet"])
def test_a_light_backend_model_answers_as_before(name: str) -> None:
    after = assert_cleaned_like_before(LIGHT / f"light_{name}.onnx")
    assert after.opset_imports[""] == 17


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["densenet121", "inception_v1", "inception_v2", "resnet50", "vgg19", "zfnet512"])
def test_a_heavier_light_model_answers_as_before(name: str) -> None:
    assert_cleaned_like_before(LIGHT / f"light_{name}.onnx")


ZOO_MODELS = {
    "efficientnet_lite0": {"BatchNormalization"},
    "all_minilm_l6_v2": set(),
    "ppocrv4_rec": {"BatchNormalization", "Constant", "Clip", "Div"},
    "magika_standard_v3_3": set(),
    "ppocr_cls": {"BatchNormalization", "Constant", "Clip", "Div"},
    "silero_vad": {"Constant"},
    "g2p_en_gru": set(),
}


@pytest.mark.zoo
@pytest.mark.parametrize("name", ZOO_MODELS)
def test_a_zoo_model_answers_as_before(name: str) -> None:
    path = ZOO / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    after = assert_cleaned_like_before(path)
    assert cost.tensor_bytes(after) <= cost.tensor_bytes(io.load(path)) + 2**20
    assert all(line.startswith("evaluated") for line in cleanup.clean(after))
    assert not ZOO_MODELS[name] & set(ops(after))


def test_each_kind_of_change_is_told_in_one_line() -> None:
    net = build(
        """agraph (float[N,3,4,4] x) => (float[A,B,C,D] y) {
        c = Conv (x, w) n = BatchNormalization (c, s, s, s, s) i = Identity (n) y = Relu (i) }""",
        {"w": np.ones((2, 3, 1, 1), np.float32), "s": np.ones(2, np.float32)},
    )
    before = net.clone()
    lines = cleanup.clean(net)
    assert "folded 1 BatchNormalization into the operator before it" in lines
    assert "removed 1 nodes that copy their input" in lines
    assert list(ops(net)) == ["Conv", "Relu"]
    assert_same(before, net)


def test_the_opset_is_left_alone_when_asked() -> None:
    net = model("agraph (float[N,3] x) => (float[A,B] y) { y = Softmax <axis = 1> (x) }", opset=11)
    assert cleanup.clean(net, opset=None) == []
    assert net.opset_imports[""] == 11


def test_an_opset_that_cannot_be_raised_is_told() -> None:
    net = model("agraph (float[N] x) => (float[A] y, float[B] m) { y, m = Dropout (x) }", opset=9)
    assert cleanup.clean(net) == ["the model stays at opset 9: Dropout '' has a mask that is read"]


def test_a_model_that_only_copies_stays_a_model() -> None:
    net = model("agraph (float[N] x) => (float[N] y) { a = Identity (x) b = Identity (a) y = Identity (b) }")
    before = net.clone()
    cleanup.clean(net)
    assert_same(before, net)


def test_20000_nodes_take_seconds() -> None:
    values = ["x", *(f"v{i}" for i in range(19_999)), "y"]
    kinds = ("Relu", "Neg", "Abs", "Sigmoid")
    nodes = [onnx.helper.make_node(kinds[i % 4], [values[i]], [values[i + 1]]) for i in range(20_000)]
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", info[:1], info[1:])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    net = ir.from_proto(proto)
    started = time.perf_counter()
    assert cleanup.clean(net) == []
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(("length", "left"), [(5_000, ["Add"]), (25_000, ["Expand", "Sin", "Add"])])
def test_a_small_model_grows_by_little(length: int, left: list[str]) -> None:
    text = f"""agraph (float[{length}] x) => (float[{length}] y) <int64[1] s = {{{length}}}, float[1] v = {{2}}> {{
        e = Expand (v, s)  f = Sin (e)  y = Add (x, f) }}"""
    net = model(text)
    cleanup.clean(net)
    assert [node.op_type for node in net.graph] == left
