"""Gradients of rows that the ONNX node tests do not reach, through small graphs, against finite differences."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

import numpy as np  # noqa: E402

from optimizer.model import ports  # noqa: E402
from optimizer.train.evaluator import Evaluator  # noqa: E402
from tests.builders import model  # noqa: E402
from tests.train.oracle import parity  # noqa: E402

MS = ', "com.microsoft": 1'
HEAD = "float[1,3,4] x"
GRAPHS = {
    "Mish": "g (double[2,3] x) => (double[2,3] y) { y = Mish(x) }",
    "Trilu": "g (double[3,3] x) => (double[3,3] y) { y = Trilu(x) }",
    "Cast": "g (double[2,3] x) => (double[2,3] y) { y = Cast<to=11>(x) }",
    "CastLike": "g (double[2,3] x) => (double[2,3] y) { y = CastLike(x, x) }",
    "OneHot": """g (double[2] x) => (double[1,3] y) <int64[1] i = {1}, int64 d = {3}> { y = OneHot(i, d, x) }""",
    "GlobalLpPool": "g (double[1,2,3,3] x) => (double[1,2,1,1] y) { y = GlobalLpPool<p=3>(x) }",
    "ScatterElements": """g (double[3] x) => (double[3] y) <int64[1] i = {1}, double[1] u = {2.0}> {
        m = Mul(u, u) y = ScatterElements(x, i, m) }""",
    "If": """g (double[3] x, bool c) => (double[3] y) {
        y = If (c) <then_branch = a () => (double[3] t) { t = Mul(x, x) },
                    else_branch = b () => (double[3] e) { e = Neg(x) }> }""",
    "Loop": """g (double[2] x) => (double[2] y, double[k,2] s) <int64 n = {3}, bool go = {1}> {
        y, s = Loop (n, go, x) <body = b (int64 i, bool c, double[2] v) => (bool d, double[2] w, double[2] o) {
            d = Identity(c) w = Mul(v, x) o = Sin(w) }> }""",
    "Scan": """g (double[3,2] x) => (double[2] y, double[3,2] s) <double[2] zero = {0.5, 0.25}> {
        y, s = Scan <num_scan_inputs = 1, body = b (double[2] a, double[2] r) => (double[2] c, double[2] o) {
            c = Mul(a, r) o = Add(c, a) }> (zero, x) }""",
    "Sequence": """g (double[2,4] x) => (double[4,2] y) <int64 two = {1}> {
        p, q = Split<axis=1>(x) l = SequenceConstruct(p, q) m = SequenceInsert(l, p, two) n = SequenceErase(m, two)
        y = ConcatFromSequence<axis=0>(n) }""",
    "SplitToSequence": """g (double[2,4] x) => (double[2,1] y) <int64 two = {2}> {
        l = SplitToSequence<axis=1>(x) t = SequenceAt(l, two) y = Exp(t) }""",
    "SimplifiedLayerNormalization": """g (double[2,4] x) => (double[2,4] y) {
        w = ReduceSum<keepdims=0>(x, a) y = SimplifiedLayerNormalization(x, w) }""",
}  # fmt: skip
GRAPHS["Clip"] = """g (double[2,3] x) => (double[2,3] a, double[2,3] b, double[2,3] c, double[2,3] d) <double l = {0.4},
    double h = {0.9}, double z = {0}> { a = Clip(x, l, h) b = Clip(x, z) c = Clip(x, , h) d = Clip(x) }"""
GRAPHS["SimplifiedLayerNormalization"] = GRAPHS["SimplifiedLayerNormalization"].replace(
    "=> (double[2,4] y)", "=> (double[2,4] y) <int64[1] a = {0}>"
)
FUSED = {
    "Gelu": "g (double[2,3] x) => (double[2,3] y) { y = com.microsoft.Gelu(x) }",
    "QuickGelu": "g (double[2,3] x) => (double[2,3] y) { y = com.microsoft.QuickGelu(x) }",
    "BiasGelu": "g (double[2,3] x, double[3] b) => (double[2,3] y) { y = com.microsoft.BiasGelu(x, b) }",
    "FastGelu": "g (double[2,3] x, double[3] b) => (double[2,3] y) { y = com.microsoft.FastGelu(x, b) }",
    "FusedMatMul": """g (double[4,3] x, double[4,2] w) => (double[3,2] y) {
        y = com.microsoft.FusedMatMul<transA=1, alpha=0.5>(x, w) }""",
    "SkipLayerNormalization": """g (double[1,3,4] x, double[1,3,4] s, double[4] w, double[4] b) => (double[1,3,4] y) {
        y = com.microsoft.SkipLayerNormalization(x, s, w, b) }""",
    "SkipSimplifiedLayerNormalization": """g (double[1,3,4] x, double[1,3,4] s, double[4] w) => (double[1,3,4] y) {
        y = com.microsoft.SkipSimplifiedLayerNormalization(x, s, w) }""",
    "Attention": """g (double[1,3,4] x, double[4,12] w, double[12] b) => (double[1,3,4] y) {
        y = com.microsoft.Attention<num_heads=2>(x, w, b) }""",
    "Attention of uneven sizes": """g (double[1,3,4] x, double[4,10] w, double[10] b) => (double[1,3,2] y) {
        y = com.microsoft.Attention<num_heads=2, qkv_hidden_sizes=[4, 4, 2]>(x, w, b) }""",
    "causal Attention": """g (double[1,3,4] x, double[4,12] w, double[12] b) => (double[1,3,4] y) {
        y = com.microsoft.Attention<num_heads=2, unidirectional=1>(x, w, b) }""",
    "MultiHeadAttention": """g (double[1,3,4] q, double[1,5,4] k, double[1,5,4] v) => (double[1,3,4] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v) }""",
    "causal MultiHeadAttention": """g (double[1,3,4] q, double[1,3,4] k, double[1,3,4] v) => (double[1,3,4] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=2, unidirectional=1>(q, k, v) }""",
    "EmbedLayerNormalization": """g (double[5,4] w, double[3,4] p, double[4] a, double[4] b) => (double[1,3,4] y)
        <int32[1,3] ids = {1, 4, 1}> { y, m = com.microsoft.EmbedLayerNormalization(ids, , w, p, , a, b) }""",
}


def gradient_holds(text: str, opset: int, extra: str) -> bool:
    evaluator = Evaluator(model(text, opset=opset, extra_opsets=extra))
    inputs = [value for value in evaluator.model.graph.inputs if value.name not in evaluator.model.graph.initializers]
    generator = torch.Generator().manual_seed(0)
    floats = [value for value in inputs if value.dtype is not None and value.dtype.is_floating_point()]
    leaves = [0.3 + torch.rand(*value.shape, dtype=torch.double, generator=generator) for value in floats]
    fixed = {value.name or "": torch.tensor(True) for value in inputs if value not in floats}

    def function(*tensors: Any) -> Any:
        named = {value.name or "": tensor for value, tensor in zip(floats, tensors, strict=True)}
        found = evaluator.run({**named, **fixed})
        return tuple(out for out in found.values() if out.requires_grad)

    found: bool = torch.autograd.gradcheck(function, [leaf.requires_grad_() for leaf in leaves], atol=1e-5)
    return found


@pytest.mark.parametrize("op", GRAPHS)
def test_an_op_of_onnx_passes_its_gradient_on(op: str) -> None:
    assert gradient_holds(GRAPHS[op], 18, "")


@pytest.mark.parametrize("op", FUSED)
def test_a_fused_op_of_the_runtime_passes_its_gradient_on(op: str) -> None:
    assert gradient_holds(FUSED[op], 18, MS)


@pytest.mark.parametrize("op", FUSED)
def test_a_fused_op_computes_what_the_runtime_does(op: str) -> None:
    fused = model(FUSED[op].replace("double", "float"), opset=18, extra_opsets=MS)
    random = np.random.default_rng(0)
    feed = {port.name: random.normal(0, 1, port.shape).astype(np.float32) for port in ports.inputs(fused)}
    assert parity(fused, feed) < 1e-5
