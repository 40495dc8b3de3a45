"""The rows of the evaluator against the ONNX project's own node tests: values, and gradients by finite differences."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.train.evaluator import Evaluator, missing_rows  # noqa: E402
from optimizer.train.rows import ROWS  # noqa: E402
from optimizer.train.table import Call, Unsupported, key  # noqa: E402

NO_NUMBERS = ("string", "FLOAT8", "FLOAT4", "INT4", "INT2", "e4m3", "e5m2", "e8m0", "float4", "int4", "int2", "bf16")
"""Node tests on types that are unpacked or widened here, so that the bits cannot be compared."""
KNOWN = {
    "test_scan_sum": "the batched Scan of opset 8",
    "test_reduce_max_empty_set_bool": "the largest of no booleans",
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime divides by the rounded size, and so do we",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime divides by the rounded size, and so do we",
    "test_quantizelinear_blocked_symmetric": "its data is an int4 tensor",
}
REFUSED = ("training_dropout", "maxpool_with_argmax", "qk_matmul", "padded_kv", "nonpad", "window")
"""Forms that are refused by name."""


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return [case for case in collect_testcases(None) if usable(case)]


def usable(case: Any) -> bool:
    if case.name in KNOWN or any(word in case.name for word in (*NO_NUMBERS, "_seq", "sequence_", "_expanded")):
        return False
    ports = [*case.model.graph.input, *case.model.graph.output]
    tensors = all(port.type.HasField("tensor_type") for port in ports)
    strings = any(port.type.tensor_type.elem_type == onnx.TensorProto.STRING for port in ports)
    return tensors and not strings and not missing_rows(ir.from_proto(case.model))


def failures(case: Any) -> Iterator[str]:
    evaluator = Evaluator(ir.from_proto(case.model))
    for inputs, outputs in case.data_sets:
        feed = {port.name: as_array(data) for port, data in zip(case.model.graph.input, inputs, strict=False)}
        for found, expected in zip(evaluator.numpy(feed), map(as_array, outputs), strict=True):
            if found.shape != expected.shape or not close(found, expected, case):
                yield case.name


def as_array(data: Any) -> Any:
    return onnx.numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else np.asarray(data)


def close(found: Any, expected: Any, case: Any) -> bool:
    half = expected.dtype == np.float16
    rtol, atol = max(case.rtol or 0, 2e-3 if half else 1e-3), max(case.atol or 0, 1e-3 if half else 1e-5)
    return np.allclose(found.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True)


def test_every_row_computes_what_the_onnx_node_tests_expect(cases: list[Any]) -> None:
    wrong: list[str] = []
    checked = 0
    for case in cases:
        try:
            wrong.extend(failures(case))
            checked += 1
        except Unsupported as refusal:
            assert any(word in case.name for word in REFUSED), (case.name, str(refusal))
    assert not wrong
    assert checked > 800


def single(case: Any) -> ir.Node | None:
    """The only node of a node test, where its inputs are fed and some of them are floats."""
    graph = ir.from_proto(case.model).graph
    plain = len(graph) == 1 and not case.model.functions
    refused = any(word in case.name for word in REFUSED)
    return graph.node(0) if plain and not refused and key(graph.node(0)) in ROWS else None


def call_of(node: ir.Node, opset: int) -> Call:
    return Call(node, opset, torch, lambda graph, inputs: pytest.fail("no subgraph expected"))


def nudged(array: Any, random: Any, op: str) -> Any:
    """Away from kinks and ties, but not across zero (logarithms, roots) nor beyond one (arcus functions)."""
    outward = 0.5 if op == "Acosh" else np.where(array == 0, 0.01, 0.0)
    return array.astype(np.float64) * (1 - 0.1 * random.random(array.shape)) + outward


LEARNT = {"Resize": 1, "Upsample": 1, "OneHot": 1, "Pad": 1, "BatchNormalization": 3}
"""How many of the float inputs get a gradient, where not all do: the others steer, or are statistics."""


def gradient_case(case: Any, node: ir.Node) -> tuple[Any, list[Any]] | None:
    arrays = dict(zip((port.name for port in case.model.graph.input), case.data_sets[0][0], strict=False))
    given = [None if value is None else np.asarray(arrays[value.name]) for value in node.inputs]
    floats = [i for i, array in enumerate(given) if array is not None and array.dtype.kind == "f" and array.size]
    odd = any(array is not None and array.dtype.kind == "V" for array in given)
    if odd or not floats or sum(given[i].size for i in floats) > 5000:
        return None
    random = np.random.default_rng(0)
    learnt = floats[: LEARNT.get(node.op_type, len(floats))]
    tensors = [None if array is None else torch.from_numpy(np.array(array)) for array in given]
    for i in floats:
        exact = given[i].astype(np.float64)
        tensors[i] = torch.tensor(nudged(given[i], random, node.op_type) if i in learnt else exact)
    call = call_of(node, case.model.opset_import[0].version)

    def function(*leaves: Any) -> Any:
        inputs = list(tensors)
        for i, leaf in zip(learnt, leaves, strict=True):
            inputs[i] = leaf
        found = ROWS[key(node)].compute(call, *inputs)
        found = found if isinstance(found, tuple) else (found,)
        return tuple(out for out in found if out.requires_grad)

    return function, [tensors[i].requires_grad_() for i in learnt]


STRAIGHT_THROUGH = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}
STRAIGHT_THROUGH |= {"QLinearConv", "QLinearMatMul"}
"""Their gradient is no derivative: `test_quantized.py` holds it against its definition."""
ELSEWHERE = {op for op, row in ROWS.items() if op.startswith("com.microsoft") or (row.smooth and "Sequence" in op)}
ELSEWHERE |= {"If", "Loop", "Scan", "GlobalLpPool", "SimplifiedLayerNormalization", "Scatter", "Trilu", "Cast"}
ELSEWHERE |= {"CastLike", "Mish", "OneHot"}
"""Covered by graphs in `test_gradients.py`."""


def test_every_smooth_row_has_the_gradient_of_finite_differences(cases: list[Any]) -> None:
    checked: dict[str, int] = {}
    wrong: list[str] = []
    for case in cases:
        node = single(case)
        op = "" if node is None else key(node)
        if node is None or not ROWS[op].smooth or op in STRAIGHT_THROUGH | ELSEWHERE or checked.get(op, 0) >= 2:
            continue
        found = gradient_case(case, node)
        if found is None or not any(out.requires_grad for out in found[0](*found[1])):
            continue
        if not torch.autograd.gradcheck(*found, eps=1e-6, atol=1e-4, rtol=1e-3, raise_exception=False, fast_mode=True):
            wrong.append(case.name)
        checked[op] = checked.get(op, 0) + 1
    missing = {op for op, row in ROWS.items() if row.smooth} - set(checked) - STRAIGHT_THROUGH - ELSEWHERE
    assert (missing, wrong) == (set(), [])
