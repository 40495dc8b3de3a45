"""Weights kept as int8 in the file and computed with in float: smaller, never slower, and no faster.

A float weight W becomes ``Mul(Cast(W_int8), scale)``. ONNX Runtime evaluates both when it loads the model, so that a
run sees the float weight again. (A DequantizeLinear would not be folded and would run every time.) A large table that
only Gather reads stays int8 in memory too: ``Gather(W_int8, i)`` and ``Gather(scale, i)`` are multiplied per row.

Scales are symmetric, one per slice that a reader treats alike:

| reader                     | one scale for each                        |
|----------------------------|-------------------------------------------|
| Conv, ConvTranspose        | index of axis 0                           |
| MatMul, Gemm               | output channel                            |
| LSTM, GRU, RNN             | direction and gate unit (all but the last axis) |
| Gather                     | row                                       |
| anything else              | index of axis 0                           |

The weights of groups that calibration has seen are not rounded here but in `weights`, biases corrected.

Left alone: what is not float32 or not finite, has fewer than 1,024 elements or one axis (biases, norms), or is a graph
output. A weight that `restored` was called for already is not stored a second time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array
from optimizer.ops import int8
from optimizer.quantize.naming import Fresh, distinct

SMALLEST = 1024
_TOP = 127
_RESTORES = "optimize.restores"
"""Key of a value's `meta`: the name of the float weight that it stands for."""
_LARGE_TABLE = 2**20
"""Elements from which keeping a table int8 in memory is worth the two kernels behind each lookup."""


def store(model: ir.Model, leave: Collection[str] = (), per_tensor: bool = False) -> set[str]:
    """Turn the float weights of `model`, but those called in `leave`, into int8 storage, in place.

    Returns the names of the nodes that read them.
    """
    graph, fresh = model.graph, Fresh(model.graph)
    made = {str(out.meta[_RESTORES]): out for node in graph for out in node.outputs if _RESTORES in out.meta}
    readers: set[str] = set()
    for name, value in list(graph.initializers.items()):
        if name in leave or value.is_graph_output() or not value.uses() or not storable(value):
            continue
        readers |= {use.node.name or "" for use in value.uses()}
        if name in made:
            _give(value, made[name])
        else:
            _store(graph, fresh, name, value, per_tensor)
        del graph.initializers[name]
    distinct(graph)
    return readers


def storable(value: ir.Value) -> bool:
    """Whether `value` is a weight that int8 storage is for."""
    array = int8.constant(value)
    if array is None or array.dtype != np.float32 or array.ndim < 2 or array.size < SMALLEST:
        return False
    return bool(np.isfinite(array).all())


def restored(graph: ir.Graph, fresh: Fresh, name: str, integers: Array, scale: Array) -> ir.Value:
    """The float tensor that the runtime makes of `integers` and `scale` when it loads the model."""
    stored, factor = _constant(graph, fresh(f"{name}_int8"), integers), _constant(graph, fresh(f"{name}_scale"), scale)
    cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"{name}_Cast")
    product = ir.node("Mul", [cast.outputs[0], factor], name=f"{name}_Restore")
    _typed(cast, fresh(f"{name}_cast"), stored.shape)
    _typed(product, fresh(f"{name}_restored"), stored.shape)
    product.outputs[0].meta[_RESTORES] = name
    graph.insert_before(graph[0], [cast, product])
    return product.outputs[0]


def _give(old: ir.Value, new: ir.Value) -> None:
    for use in tuple(old.uses()):
        use.node.replace_input_with(use.idx, new)


def _store(graph: ir.Graph, fresh: Fresh, name: str, value: ir.Value, per_tensor: bool) -> None:
    uses, array = tuple(value.uses()), int8.constant(value)
    assert array is not None
    rounded, scale = _rounded(array, range(array.ndim) if per_tensor else _axes(array, uses[0].node, uses[0].idx))
    if array.size >= _LARGE_TABLE and not per_tensor and all(_row_lookup(use.node, use.idx) for use in uses):
        integers = _constant(graph, fresh(f"{name}_int8"), rounded)
        factor = _constant(graph, fresh(f"{name}_scale"), scale)
        for use in uses:
            _gather(fresh, use.node, integers, factor)
    else:
        _give(value, restored(graph, fresh, name, rounded, scale))


def _gather(fresh: Fresh, node: ir.Node, integers: ir.Value, factor: ir.Value) -> None:
    """Let `node` look up int8 rows, and multiply them by their scales behind it."""
    old = node.outputs[0]
    node.replace_input_with(0, integers)
    lookup = ir.node("Gather", [factor, node.inputs[1]], {"axis": 0}, name=f"{node.name}_scale")
    cast = ir.node("Cast", [old], {"to": ir.DataType.FLOAT}, name=f"{node.name}_Cast")
    product = ir.node("Mul", [cast.outputs[0], lookup.outputs[0]], name=f"{node.name}_Restore")
    uses, output = tuple(old.uses()), old.is_graph_output()
    _typed(lookup, fresh(f"{old.name}_row_scale"), None)
    _typed(cast, fresh(f"{old.name}_cast"), old.shape)
    _typed(product, fresh(f"{old.name}_restored"), old.shape)
    assert node.graph is not None
    node.graph.insert_after(node, [lookup, cast, product])
    for use in uses:
        if use.node is not cast:
            use.node.replace_input_with(use.idx, product.outputs[0])
    if output:
        outputs = node.graph.outputs
        outputs[next(i for i, value in enumerate(outputs) if value is old)] = product.outputs[0]
        name = old.name
        old.name, product.outputs[0].name = fresh(f"{name}_int8"), name
    old.type = ir.TensorType(ir.DataType.INT8)


def _row_lookup(node: ir.Node, index: int) -> bool:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    return node.op_type == "Gather" and not node.domain and index == 0 and axis == 0


def _axes(array: Array, node: ir.Node, index: int) -> tuple[int, ...]:
    """The axes that share a scale."""
    every = tuple(range(array.ndim))
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return every[-1:]
    if node.op_type == "MatMul":
        return every[-2:-1] if index == 1 else every[-1:]
    if node.op_type == "Gemm" and not int8.attribute(node, "transB", 0) and index == 1:
        return (0,)
    return every[1:]


def _rounded(array: Array, axes: Sequence[int]) -> tuple[Array, Array]:
    """int8 values and float32 scales (axes kept as 1), shrunk where that lowers the squared error."""
    axes = tuple(axes)
    top = np.maximum(np.abs(array).max(axis=axes, keepdims=True), 1e-12)
    best, least = top / _TOP, np.full(top.shape, np.inf)
    for share in np.linspace(1.0, 0.8, 9):
        scale = (top * share / _TOP).astype(np.float32)
        found = np.square(array - np.clip(np.rint(array / scale), -_TOP, _TOP) * scale).sum(axis=axes, keepdims=True)
        best, least = np.where(found < least, scale, best), np.minimum(found, least)
    best = best.astype(np.float32)
    return np.clip(np.rint(array / best), -_TOP, _TOP).astype(np.int8), best


def _constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def _typed(node: ir.Node, name: str, shape: ir.Shape | None) -> None:
    output = node.outputs[0]
    output.name, output.type, output.shape = name, ir.TensorType(ir.DataType.FLOAT), shape
