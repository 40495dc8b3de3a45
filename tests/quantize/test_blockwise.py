"""Block-wise weights: what the runtime computes with them is what the dequantized weights give, and little is lost."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.model import cost, shapes
from optimizer.model.passes.edit import nodes
from optimizer.quantize import blockwise
from optimizer.runtime.session import open_session
from tests.quantize.nets import Array, build, noise, normal

PRODUCTS: dict[str, tuple[str, dict[str, Array]]] = {
    "MatMul": ("float[2,M,48] x) => (float[2,M,24] y) { y = MatMul(x, w)", {"w": normal(48, 24)}),
    "Gemm": ("float[M,48] x) => (float[M,24] y) { y = Gemm(x, w, b)", {"w": normal(48, 24), "b": normal(24)}),
    "Gemm transB": (
        "float[M,48] x) => (float[M,24] y) { y = Gemm <transB = 1> (x, w, b)",
        {"w": normal(24, 48), "b": normal(1, 1)},
    ),
    "in a body": (
        """float[2,48] x, bool c) => (float[2,24] y) { y = If (c)
        <then_branch = t () => (float[2,24] p) { p = MatMul(x, w) },
        else_branch = e () => (float[2,24] q) { r = MatMul(x, w) q = Neg(r) }>""",
        {"w": normal(48, 24)},
    ),
}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_by_a_constant_takes_blocks_and_keeps_its_answer(name: str, bits: int) -> None:
    text, arrays = PRODUCTS[name]
    before = build("g (" + text + " }", arrays)
    after = before.clone()
    assert blockwise.store(after, bits, 32)
    assert [node.op_type for node in nodes(after)].count("MatMulNBits") == 1 + (name == "in a body")
    assert "w" not in after.graph.initializers
    dims = {"M": 3}
    feed = {"x": normal(*(dims.get(str(dim), dim) for dim in before.graph.inputs[0].shape or ()))}  # type: ignore[call-overload]
    feed |= {"c": np.array(True)} if name == "in a body" else {}
    want, got = (open_session(model).run(feed)[0] for model in (before, after))
    assert noise(got, want) < (0.02 if bits == 8 else 0.15)


@pytest.mark.parametrize("bits", [4, 8])
def test_scales_are_at_least_as_good_as_the_largest_magnitude_s(bits: int) -> None:
    rows = normal(8, 40)
    codes, scales = blockwise.rounded(rows, bits, 16)
    assert codes.shape == (8, 3, 16) and scales.shape == (8, 3)
    half = 2 ** (bits - 1)
    found = ((codes.astype(np.float32) - half) * scales[:, :, None]).reshape(8, 48)
    np.testing.assert_array_equal(found[:, 40:], 0)
    plain = np.abs(rows).max() / (half - 1)
    assert noise(found[:, :40], rows) < noise(np.rint(rows / plain) * plain, rows)
    assert codes.max() < 2**bits


def test_what_is_small_left_out_or_not_finite_stays() -> None:
    weights = {"w": normal(48, 24), "s": normal(4, 4), "k": normal(48, 24), "i": np.full((48, 24), np.inf, np.float32)}
    body = "y = MatMul(x, w) z = MatMul(p, s) u = MatMul(x, k) v = MatMul(x, i)"
    net = build(f"g (float[2,48] x, float[2,4] p) => (y, z, u, v) {{ {body} }}", weights)
    first = net.graph[0].name
    assert blockwise.store(net, 4, 16, leave={"k"}) == {first}
    assert set(net.graph.initializers) >= {"s", "k", "i"}


def test_figures_count_weights_not_bytes() -> None:
    net = build(
        "g (float[2,48] x) => (y) { h = MatMul(x, w) y = MatMul(h, v) }", {"w": normal(48, 64), "v": normal(64, 48)}
    )
    before = cost.count(net, {})
    blockwise.store(net, 4, 32)
    assert shapes.infer(net) is None
    after = cost.count(net, {})
    assert after.macs == before.macs
    assert before.params <= after.params < 1.1 * before.params
