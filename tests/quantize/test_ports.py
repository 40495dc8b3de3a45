"""uint8 graph inputs and outputs: same answers within a step, names kept, decoded by the metadata."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from optimizer.data.convert import OUTPUT_KEY, coded, codes
from optimizer.model import io
from optimizer.quantize import ports
from optimizer.quantize.qparams import QParams, from_range
from optimizer.runtime.session import open_session
from tests.builders import model

X, Y = from_range(-1.0, 1.0), from_range(-1.0, 2.0)
IN_FLOAT = "g (float[N,4] x) => (float[N,4] y) { t = Relu(x) y = Add(t, x) }"
IN_UINT8 = """g (float[N,4] x) => (float[N,4] y) <float s = {0.0078431377}, uint8 z = {127}> {
    q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) t = Relu(d) u = QuantizeLinear(t, s, z)
    y = DequantizeLinear(u, s, z) }"""


def real(text: str, inputs: dict[str, QParams], outputs: dict[str, QParams]) -> tuple[np.ndarray, np.ndarray, float]:
    """Outputs of the float ports, of the uint8 ports decoded, and a step of the output."""
    original, changed = model(text), model(text)
    ports.convert(changed, inputs, outputs)
    onnx.checker.check_model(io.to_proto(changed))
    x = np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32)
    session = open_session(changed)
    (found,) = session.run({name: code.encode(x) for name, code in codes(changed).items()} or {"x": x})
    how = coded(session.metadata, OUTPUT_KEY)
    decoded = how["y"].decode(found) if "y" in how else found
    return open_session(original).run({"x": x})[0], decoded, how["y"].scale[0] if how else X.scale


@pytest.mark.parametrize("text", [IN_FLOAT, IN_UINT8])
@pytest.mark.parametrize(("inputs", "outputs"), [({"x": X}, {}), ({}, {"y": Y}), ({"x": X}, {"y": Y})])
def test_bytes_in_and_out_give_the_same_answers_within_a_step(
    text: str, inputs: dict[str, QParams], outputs: dict[str, QParams]
) -> None:
    wanted, found, step = real(text, inputs, outputs)
    np.testing.assert_allclose(found, wanted, atol=step / 2 + 2 * X.scale)


def test_ports_keep_their_names_and_become_uint8() -> None:
    changed = model(IN_UINT8)
    ports.convert(changed, {"x": X}, {"y": Y})
    assert [(value.name, value.dtype.name) for value in changed.graph.inputs if value.dtype] == [("x", "UINT8")]
    assert [(value.name, value.dtype.name) for value in changed.graph.outputs if value.dtype] == [("y", "UINT8")]
    assert [node.op_type for node in changed.graph] == ["DequantizeLinear", "Relu", "QuantizeLinear"]


def test_an_output_that_was_uint8_inside_keeps_those_parameters() -> None:
    changed = model(IN_UINT8)
    ports.convert(changed, {}, {"y": Y})
    assert coded(changed.metadata_props, OUTPUT_KEY)["y"].zero_point == (127,)


def test_only_float32_values_can_become_bytes() -> None:
    graph = model("g (float[2] x, int64[2] i) => (float[2] y) { y = Gather(x, i) }").graph
    assert ports.real(list(graph.inputs)) == ("x",)
