"""The evaluator on whole models, against ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.model import io, ports  # noqa: E402
from optimizer.model.ports import Feed  # noqa: E402
from optimizer.train.evaluator import Evaluator  # noqa: E402
from optimizer.train.table import Unsupported  # noqa: E402
from tests.builders import model  # noqa: E402
from tests.train.oracle import filled, parity, unsaturated  # noqa: E402

ZOO = Path(os.environ.get("ZOO_DIR", "~/.cache/optimize-zoo")).expanduser()
SAMPLES = Path(__file__).parents[2] / "sample_models"
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
TOLERANCE = 1e-3
SMALL = ("densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")


def random_feed(graph: ir.Model, sizes: dict[str, int] | None = None) -> Feed:
    random = np.random.default_rng(0)
    feed = {}
    for port in ports.inputs(graph):
        shape = [dim if isinstance(dim, int) else (sizes or {}).get(str(dim), 2) for dim in port.shape]
        whole = port.dtype.kind in "iu"
        feed[port.name] = (random.integers(1, 20, shape) if whole else random.normal(0, 1, shape)).astype(port.dtype)
    return feed


@pytest.mark.parametrize("name", SMALL)
def test_a_light_model_with_random_weights_computes_what_onnx_runtime_does(name: str) -> None:
    light = unsaturated(filled(io.load(LIGHT / f"light_{name}.onnx")))
    assert parity(light, random_feed(light)) < TOLERANCE


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["bvlc_alexnet", "vgg19", "zfnet512"])
def test_a_large_light_model_computes_what_onnx_runtime_does(name: str) -> None:
    light = unsaturated(filled(io.load(LIGHT / f"light_{name}.onnx")))
    assert parity(light, random_feed(light)) < TOLERANCE


@pytest.mark.parametrize("name", ["depthwise_cnn", "gru", "residual_cnn", "vision_transformer"])
def test_a_sample_model_computes_what_onnx_runtime_does(name: str) -> None:
    path = SAMPLES / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    sample = io.load(path)
    assert parity(sample, random_feed(sample)) < TOLERANCE


def zoo_feed(name: str, graph: ir.Model) -> Feed:
    if (ZOO / f"{name}.calib.npz").exists():
        with np.load(ZOO / f"{name}.calib.npz") as data:
            return {port.name: data[port.name][:1] for port in ports.inputs(graph)}
    random = np.random.default_rng(0)
    if name == "silero_vad":
        state = np.zeros((2, 1, 128), np.float32)
        return {"input": random.normal(0, 0.1, (1, 512)).astype(np.float32), "state": state, "sr": np.array(16000)}
    if name == "ppocr_cls":
        return {ports.inputs(graph)[0].name: random.normal(0, 1, (2, 3, 48, 192)).astype(np.float32)}
    feed = dict(random_feed(graph, {port.shape[-1]: 9 for port in ports.inputs(graph) if len(port.shape) == 2}))
    return {port.name: np.full_like(feed[port.name], 9) if len(port.shape) == 1 else feed[port.name]
            for port in ports.inputs(graph)}  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name",
    ["all_minilm_l6_v2", "efficientnet_lite0", "g2p_en_gru", "magika_standard_v3_3", "ppocr_cls", "ppocrv4_rec",
     "silero_vad"],
)  # fmt: skip
def test_a_real_model_computes_what_onnx_runtime_does(name: str) -> None:
    if not (ZOO / f"{name}.onnx").exists():
        pytest.skip(f"{name} is not in {ZOO}")
    real = io.load(ZOO / f"{name}.onnx")
    assert parity(real, zoo_feed(name, real)) < TOLERANCE


def test_an_op_without_a_row_is_named() -> None:
    odd = model(
        "g (float[1,3] x) => (float[1,3] y) { t = Relu(x) y = com.acme.Twist(t) }", extra_opsets=', "com.acme": 1'
    )
    with pytest.raises(Unsupported, match=r"com\.acme::Twist"):
        Evaluator(odd)


def test_a_failure_inside_torch_names_the_node() -> None:
    wrong = model("g (float[1,3] x, float[1,4] b) => (float[1,3] y) { y = Add(x, b) }")
    with pytest.raises(Unsupported, match="Add"):
        Evaluator(wrong).numpy({"x": np.zeros((1, 3), np.float32), "b": np.zeros((1, 4), np.float32)})


def test_a_branch_sees_the_values_around_it() -> None:
    branching = model("""g (float[2,3] x, bool c) => (float[2,3] y) <float[3] w = {1, 2, 3}> {
        s = Add(x, w)
        y = If (c) <then_branch = a () => (float[2,3] t) { t = Mul(s, w) },
                    else_branch = b () => (float[2,3] e) { e = Sub(s, x) }>
    }""")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for condition in (True, False):
        assert parity(branching, {"x": x, "c": np.array(condition)}) == 0


def test_functions_are_inlined_and_the_model_keeps_them() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    g (float[2] x) => (float[2] y) { y = local.twice(x) }
    <domain: "local", opset_import: ["": 17]> twice (a) => (b) { b = Add(a, a) }"""
    functional = ir.from_onnx_text(text)
    assert Evaluator(functional).numpy({"x": np.array([1, 2], np.float32)})[0].tolist() == [2, 4]
    assert len(functional.functions) == 1


def test_opsets_differ_where_the_specification_does() -> None:
    old = model("g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }", opset=11)
    new = model("g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }", opset=13)
    feed = random_feed(old)
    assert parity(old, feed) < 1e-6
    assert parity(new, feed) < 1e-6
    assert not np.allclose(Evaluator(old).numpy(feed)[0], Evaluator(new).numpy(feed)[0])


TWISTED = """g (float[1,3] x, float[1,3] u) => (float[1,3] y, float[1,3] z) <float[3] w = {1, 2, 3}> {
    t = Mul(x, w) y = Relu(t) s = Add(t, u) z = com.acme.Twist(s) }"""


def test_only_what_is_wanted_is_run() -> None:
    odd = model(TWISTED, extra_opsets=', "com.acme": 1')
    with pytest.raises(Unsupported, match=r"com\.acme::Twist"):
        Evaluator(odd)
    evaluator = Evaluator(odd, ["y"])
    found = evaluator.run({"x": torch.ones(1, 3)})
    assert [node.op_type for node in evaluator.nodes] == ["Mul", "Relu"]
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"y": [[1, 2, 3]]}
