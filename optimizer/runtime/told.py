"""Types and shapes that only the runtime can infer: of what operators of its own domains, and of custom ones, give.

ONNX's inference stops at such an operator, and everything behind it would be of unknown type. Within bodies of If and
Loop nothing can be asked for.
"""

from __future__ import annotations

import re

import onnx_ir as ir

from optimizer.errors import ModelError
from optimizer.model.shapes import MADE_UP
from optimizer.runtime.session import Options, open_session

_STANDARD = ("", "ai.onnx")
_TENSOR = re.compile(r"tensor\((\w+)\)")


def tell(model: ir.Model) -> int:
    """Give the results of `model`'s operators that are not standard ones the type and shape that the runtime infers,
    where the model states none, in place; returns to how many."""
    untold = [value for node in model.graph for value in node.outputs if _untold(value, node)]
    if not untold:
        return 0
    copy, names = model.clone(), {value.name for value in untold}
    copy.graph.outputs.extend(value for node in copy.graph for value in node.outputs if value.name in names)
    try:
        found = {port.name: port for port in open_session(copy, Options(level="none")).raw.get_outputs()}
    except ModelError:
        return 0
    for value in untold:
        port = found[value.name]
        kind = _TENSOR.fullmatch(port.type)
        if kind is not None and kind[1].upper() in ir.DataType.__members__:
            value.type = value.type or ir.TensorType(ir.DataType[kind[1].upper()])
            value.shape = value.shape if value.shape is not None else ir.Shape(map(_size, port.shape))
    return len(untold)


def _untold(value: ir.Value, node: ir.Node) -> bool:
    inner = bool(value.uses()) and not value.is_graph_output()
    return node.domain not in _STANDARD and inner and (value.dtype is None or value.shape is None)


def _size(size: int | str | None) -> int | str | None:
    return None if MADE_UP.match(str(size)) else size
