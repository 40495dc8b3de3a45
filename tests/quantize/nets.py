"""Float models ready for quantization, statistics of them, and the numbers that an int8 form may miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import NameFixPass

from optimizer.model import io, shapes
from optimizer.quantize import emit, groups, static, statistics, weights
from optimizer.quantize.groups import Group
from optimizer.quantize.plan import Plan

Array = np.ndarray[Any, np.dtype[Any]]


def build(text: str, arrays: Mapping[str, Array] | None = None, opset: int = 21) -> ir.Model:
    """A model from text, with `arrays` as its initializers; values and nodes are named, shapes inferred."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>' + text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in (arrays or {}).items())
    net = ir.from_proto(proto)
    NameFixPass()(net)
    shapes.infer(net)
    return net


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Seeded float32 values."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def feeds(net: ir.Model, count: int = 8, scale: float = 1.0) -> list[dict[str, Array]]:
    """Seeded inputs; open axes are 2 long, integers are 0 or 1."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        feed = {}
        for value in net.graph.inputs:
            dims = [dim if isinstance(dim, int) else 2 for dim in value.shape or ()]
            dtype = (value.dtype or ir.DataType.FLOAT).numpy()
            drawn = rng.standard_normal(dims) * scale if dtype.kind == "f" else rng.integers(0, 2, dims)
            feed[str(value.name)] = np.asarray(drawn, dtype)
        found.append(feed)
    return found


def evaluate(net: ir.Model, feed: Mapping[str, Array]) -> list[Array]:
    """The outputs by ONNX's own reference, after its checker."""
    proto = io.to_proto(net)
    onnx.checker.check_model(proto, full_check=True)
    found: list[Array] = ReferenceEvaluator(proto).run(None, dict(feed))
    return found


def planned(
    net: ir.Model,
    samples: Sequence[Mapping[str, Array]] | None = None,
    dynamic: Sequence[str] = (),
    keep: Sequence[str] | None = None,
    how: weights.Settings | None = None,
) -> Plan:
    """Everything that can be int8 (or the groups named in `keep`), by the ranges that were seen."""
    found = [group for group in groups.partition(net).groups if keep is None or group.name in keep]
    seen = statistics.gather(net, found, samples or feeds(net))
    return static.plan(net, found, seen, "minmax", how or weights.Settings(), dynamic)


def quantized(net: ir.Model, **options: Any) -> ir.Model:
    """`net` with `planned` written into it."""
    return emit.emit(net, planned(net, **options))


def group(net: ir.Model, op: str) -> Group:
    """The only group whose head is an `op`."""
    (found,) = (group for group in groups.partition(net).groups if group.op == op)
    return found


def ops(net: ir.Model) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in net.graph)


def noise(got: Array, want: Array) -> float:
    """Root mean square of the difference, as a share of that of `want`."""
    return float(np.sqrt(np.mean(np.square(got - want)) / np.mean(np.square(want))))
