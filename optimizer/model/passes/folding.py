"""Evaluate what depends on constants only.

A node is evaluated by ONNX's reference implementation when
1. all its inputs are constants (or left out), and its operator has a row in `BOUNDS`: a bound on the number of
   elements it can give, computed from its inputs *before* it runs, so that a 100-byte ConstantOfShape cannot ask for
   400 GB. Operators without a row are never evaluated: random ones, those with subgraphs, QuantizeLinear and
   DequantizeLinear (int8 weights must stay int8), and those that only a kernel computes faithfully;
2. the constants of the model grow by no more than the caller allows; bytes of constants that only this node reads
   count as freed, so transposing a weight is always possible, and what two branches compute alike is kept once;
3. reference and kernel agree: integer division of negative numbers and casts out of the target's range are left.

An `If` whose condition is constant is replaced by the branch it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from optimizer.model.passes.dead import fingerprint
from optimizer.model.passes.edit import Array, Editor, array, get, graph_of, is_constant, is_op, nodes, opset, remove

GROWTH = 2**20
"""Bytes that the constants of a model may grow by."""
_PLAIN = "biuf"
"""Kinds of numpy dtypes that the reference implementation computes with: bool, int, unsigned, float."""

Bound = Callable[[ir.Node, Sequence["Array | None"]], float]


def _data(node: ir.Node, arrays: Sequence[Array | None]) -> int:
    return 0 if arrays[0] is None else arrays[0].size


def _total(node: ir.Node, arrays: Sequence[Array | None]) -> int:
    return sum(content.size for content in arrays if content is not None)


def _broadcast(node: ir.Node, arrays: Sequence[Array | None]) -> float:
    shapes = [content.shape for content in arrays if content is not None]
    try:
        return math.prod(np.broadcast_shapes(*shapes))
    except ValueError:
        return math.inf


def _shape_input(index: int) -> Bound:
    def bound(node: ir.Node, arrays: Sequence[Array | None]) -> float:
        shape = arrays[index]
        own = arrays[0].size if index and arrays[0] is not None else 1
        return math.inf if shape is None or (shape < 0).any() else own * math.prod(int(size) for size in shape)

    return bound


def _range(node: ir.Node, arrays: Sequence[Array | None]) -> float:
    start, limit, step = (float(content.reshape(())) for content in arrays if content is not None)
    return math.inf if step == 0 else max(0.0, float((limit - start) / step + 1))


def _gather(node: ir.Node, arrays: Sequence[Array | None]) -> float:
    data, indices = arrays[0], arrays[1]
    if data is None or indices is None or not data.ndim:
        return math.inf
    return float(indices.size * data.size / max(data.shape[node.attributes.get_int("axis", 0)], 1))


def _product(node: ir.Node, arrays: Sequence[Array | None]) -> float:
    left, right = arrays[0], arrays[1]
    if left is None or right is None or not left.ndim or not right.ndim:
        return math.inf
    return float(left.size * right.size / max(left.shape[-1], 1))


def _norm(node: ir.Node, arrays: Sequence[Array | None]) -> float:
    """Of weights, as weight standardization has it. Before opset 14 training had no attribute but more outputs."""
    if len(node.outputs) > 1 and not node.attributes.get_int("training_mode", 0):
        return math.inf
    return _total(node, arrays)


def _rows(bound: Bound, names: str) -> dict[str, Bound]:
    return dict.fromkeys(names.split(), bound)


BOUNDS: dict[str, Bound] = {
    **_rows(_data, "Abs Cast Ceil Cos CumSum Erf Exp Flatten Floor Identity IsInf IsNaN Log Neg Not "
                      "Reciprocal Relu Reshape Round Sigmoid Sign Sin Slice Split Sqrt Squeeze Tanh Transpose "
                      "Unsqueeze ScatterND ScatterElements Trilu ReduceMax ReduceMean ReduceMin ReduceProd "
                      "ReduceSum ReduceL2 ReduceSumSquare"),
    **_rows(_broadcast, "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Or Pow Sub Sum "
                        "Where Xor"),
    **_rows(_total, "Concat"),
    "BatchNormalization": _norm,
    "ConstantOfShape": _shape_input(0),
    "Expand": _shape_input(1),
    "Gather": _gather,
    "MatMul": _product,
    "Range": _range,
    "Tile": _shape_input(1),
}  # fmt: skip


def fold_constants(model: ir.Model, growth: int = GROWTH) -> int:
    """Replace nodes that depend on constants only by what they give; the model grows by `growth` bytes at most."""
    editor = Editor(model)
    known: dict[Hashable, list[ir.Value]] = {}
    budget = growth
    folded = 0
    for node in nodes(model):
        if not _is_foldable(node):
            continue
        key = fingerprint(node)
        values = known.get(key, [])
        if not values or not all(value.is_initializer() for value in values):
            found = _evaluate(node, budget, opset(model))
            if found is None:
                continue
            budget -= sum(content.nbytes for content in found)
            values = _constants(editor, node, found)
        if key is not None:
            known[key] = values
        for out, value in zip(node.outputs, values, strict=True):
            editor.replace(out, value)
        budget += _drop(model, node)
        folded += 1
    return folded


def _constants(editor: Editor, node: ir.Node, found: list[Array]) -> list[ir.Value]:
    return [editor.constant(content, out.name or "folded") for out, content in zip(node.outputs, found, strict=True)]


def _drop(model: ir.Model, node: ir.Node) -> int:
    """Remove `node` and the constants that only it read; returns the bytes set free."""
    freed = 0
    inputs = [value for value in node.inputs if value is not None]
    remove(node)
    for value in dict.fromkeys(inputs):
        if not value.uses() and not value.is_graph_output() and value.const_value is not None and value.name:
            freed += value.const_value.nbytes
            del model.graph.initializers[value.name]
    return freed


def take_branches(model: ir.Model) -> int:
    """Replace every If whose condition is constant by the branch it takes."""
    editor = Editor(model)
    return sum(_take(editor, node) for node in nodes(model) if is_op(node, "If") and array(get(node, 0)) is not None)


def _is_foldable(node: ir.Node) -> bool:
    if node.domain or node.op_type not in BOUNDS or any(out.is_graph_output() for out in node.outputs):
        return False
    return all(value is None or is_constant(value) for value in node.inputs)


def _evaluate(node: ir.Node, budget: int, version: int) -> list[Array] | None:
    if not _fits(node, budget):
        return None
    arrays = [array(value) for value in node.inputs]
    if not _faithful(node, arrays):
        return None
    found = _run(node, arrays, version)
    if found is None or any(content.dtype.kind not in _PLAIN for content in found):
        return None
    return found


def _fits(node: ir.Node, budget: int) -> bool:
    """Whether what the node gives fits `budget`, judged without reading big tensors of foreign dtypes."""
    tensors = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
    if any(tensor.dtype == ir.DataType.STRING or tensor.dtype.numpy().kind not in _PLAIN for tensor in tensors):
        return False
    arrays = [array(value) for value in node.inputs]
    return BOUNDS[node.op_type](node, arrays) * _width(node, arrays) - _freed(node) <= budget


def _width(node: ir.Node, arrays: Sequence[Array | None]) -> float:
    """Bytes per element of what the node gives."""
    if is_op(node, "Cast"):
        return ir.DataType(node.attributes["to"].as_int()).itemsize
    data = arrays[1] if is_op(node, "Where") else arrays[0]
    return 8 if data is None or is_op(node, "ConstantOfShape") else data.itemsize


def _freed(node: ir.Node) -> int:
    values = {value for value in node.inputs if value is not None and len(value.consumers()) == 1}
    return sum(value.const_value.nbytes for value in values if value.const_value and not value.is_graph_output())


def _faithful(node: ir.Node, arrays: Sequence[Array | None]) -> bool:
    """Case 3."""
    contents = [content for content in arrays if content is not None]
    if is_op(node, "Div", "Mod") and any(content.dtype.kind == "i" for content in contents):
        return all((content >= 0).all() for content in contents) and bool(contents[-1].all())
    if is_op(node, "Cast"):
        target = ir.DataType(node.attributes["to"].as_int())
        if target == ir.DataType.STRING or target.numpy().kind not in _PLAIN:
            return False
        return _representable(contents[0], np.dtype(target.numpy()))
    return True


def _representable(content: Array, dtype: np.dtype[Any]) -> bool:
    if dtype.kind not in "iu" or content.dtype.kind == "b" or not content.size:
        return True
    limits = np.iinfo(dtype)
    wide = content.astype(np.float64)
    return bool(np.isfinite(wide).all() and wide.min() >= limits.min and wide.max() <= limits.max)


def _run(node: ir.Node, arrays: Sequence[Array | None], version: int) -> list[Array] | None:
    names = [value.name if value is not None else "" for value in node.inputs]
    given = {str(name): content for name, content in zip(names, arrays, strict=True) if content is not None}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(content.dtype), content.shape)
        for name, content in given.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(str(out.name)) for out in node.outputs]
    graph = onnx.helper.make_graph([ir.to_proto(node)], "fold", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, given)
    except (ValueError, TypeError, IndexError, RuntimeError, NotImplementedError):
        return None
    return [np.asarray(content) for content in found]


def _take(editor: Editor, node: ir.Node) -> bool:
    condition = array(get(node, 0))
    if condition is None or condition.size != 1:
        return False
    branch = node.attributes["then_branch" if condition.any() else "else_branch"].as_graph()
    results = list(branch.outputs)
    if branch.inputs or len(set(results)) < len(results):
        return False
    branch.outputs.clear()
    _move(editor, branch, node)
    for out, result in zip(node.outputs, results, strict=True):
        editor.replace(out, result)
    remove(node)
    return True


def _move(editor: Editor, branch: ir.Graph, node: ir.Node) -> None:
    """Put the nodes and constants of `branch` in front of `node`, under names that nothing else has."""
    for value in tuple(branch.initializers.values()):
        branch.initializers.pop(str(value.name))
        value.name = editor.fresh(str(value.name)) if editor.names[value.name or ""] > 1 else value.name
        editor.model.graph.register_initializer(value)
    moved = list(branch)
    branch.remove(moved)
    for inner in moved:
        for out in inner.outputs:
            if out.name and editor.names[out.name] > 1:
                out.name = editor.fresh(out.name)
    graph_of(node).insert_before(node, moved)
