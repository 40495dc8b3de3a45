"""Sizes and constants are found without shape inference, which does not reach into functions."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from optimizer.data.wiring import Wiring
from tests import builders


@pytest.mark.parametrize(
    ("nodes", "want"),
    [
        ("t = Identity(w)", (2, 5)),
        ("t = Transpose<perm = [1, 0]>(w)", (5, 2)),
        ("h = Cast<to = 10>(w) u = Transpose<perm = [1, 0]>(h) t = Cast<to = 1>(u)", (5, 2)),
        ("q = QuantizeLinear(w, s) t = DequantizeLinear(q, s)", (2, 5)),
        ("t = Relu(w)", (None, None)),
    ],
)
def test_a_size_is_seen_through_what_keeps_it(nodes: str, want: tuple[int | None, ...]) -> None:
    model = builders.model(
        f"g (float[1] x) => (float y) <float[2,5] w = {{0,1,2,3,4,5,6,7,8,9}}, float s = {{1}}> "
        f"{{ {nodes} y = Size(t) }}"
    )
    table = next(node for node in model.graph if node.op_type == "Size").inputs[0]
    wiring = Wiring(model)
    assert (wiring.dim(table, 0), wiring.dim(table, -1)) == want
    assert wiring.rank(table) == (None if want == (None, None) else 2)


def test_a_functions_input_has_the_size_and_the_value_of_what_it_is_called_with() -> None:
    model = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[N] x) => (float[N] y) <float[3] w = {1, 2, 3}> { y = local.f(x, w) }
        <domain: "local", opset_import: ["" : 17]> f (a, b) => (o) { c = Identity(b) o = Mul(a, c) }"""
    )
    (function,) = model.functions.values()
    product = next(node for node in function if node.op_type == "Mul")
    wiring = Wiring(model)
    assert wiring.dim(product.inputs[1], 0) == 3
    constant = wiring.constant(product.inputs[1])
    assert constant is not None and constant.tolist() == [1, 2, 3]
