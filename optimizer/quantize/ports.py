"""uint8 graph inputs and outputs: the caller sends and gets bytes.

An input x of float32 becomes a uint8 input of the same name that stands for ``(q - zero_point) * scale``; the Q that
int8 readers put behind x goes, float readers get a DQ. An output y becomes uint8 by dropping its last DQ, or by a Q
behind it where it is computed in float. How to code and decode stands in the model's metadata, as JSON under
``optimize.input.NAME`` and ``optimize.output.NAME``: ``{"scale": s, "zero_point": z, "dtype": "uint8"}``.

Where the head of the graph was changed (`head`), the metadata tells how to code what the original input took: scale and
zero point may then be lists, one per channel, and the zero point a fraction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array
from optimizer.quantize.head import Bytes, Head
from optimizer.quantize.naming import Fresh
from optimizer.quantize.qparams import QParams

INPUT_KEY, OUTPUT_KEY = "optimize.input.", "optimize.output."


def real(values: list[ir.Value]) -> tuple[str, ...]:
    """The names of those values that are float32, the only ones that can become uint8."""
    return tuple(value.name or "" for value in values if value.dtype == ir.DataType.FLOAT)


def convert(
    model: ir.Model,
    inputs: Mapping[str, QParams],
    outputs: Mapping[str, QParams],
    heads: Mapping[str, Head] | None = None,
) -> None:
    """Make the graph inputs and outputs named in the two mappings uint8, in place."""
    fresh = Fresh(model.graph)
    for name, params in inputs.items():
        _input(model.graph, fresh, name, params)
        head = (heads or {}).get(name)
        model.metadata_props[INPUT_KEY + name] = _code(params) if head is None else _bytes(head.code)
    for name, params in outputs.items():
        model.metadata_props[OUTPUT_KEY + name] = _code(_output(model.graph, fresh, name, params))


def _input(graph: ir.Graph, fresh: Fresh, name: str, params: QParams) -> None:
    position = next(i for i, value in enumerate(graph.inputs) if value.name == name)
    old = graph.inputs[position]
    new = ir.val(fresh(f"{name}_bytes"), ir.DataType.UINT8, old.shape)
    dq = ir.node("DequantizeLinear", [new, *_constants(graph, fresh, name, params)], name=fresh(f"{name}_Dequantize"))
    dq.outputs[0].name = fresh(f"{name}_real")
    dq.outputs[0].type, dq.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), old.shape
    graph.insert_before(graph[0], dq)
    for use in tuple(old.uses()):
        if use.node.op_type == "QuantizeLinear" and use.idx == 0:
            use.node.outputs[0].replace_all_uses_with(new)
            graph.remove(use.node, safe=True)
        else:
            use.node.replace_input_with(use.idx, dq.outputs[0])
    if not dq.outputs[0].uses():
        graph.remove(dq, safe=True)
    graph.inputs[position] = new
    old.name, new.name = fresh(f"{name}_float"), name


def _output(graph: ir.Graph, fresh: Fresh, name: str, params: QParams) -> QParams:
    """Make one output uint8; returns the parameters it has, which are those of its last DQ if it ends in one."""
    position = next(i for i, value in enumerate(graph.outputs) if value.name == name)
    old = graph.outputs[position]
    last = old.producer()
    if last is not None and last.op_type == "DequantizeLinear" and last.inputs[0] is not None:
        new, params = last.inputs[0], _params(last)
    else:
        q = ir.node("QuantizeLinear", [old, *_constants(graph, fresh, name, params)], name=fresh(f"{name}_Quantize"))
        graph.append(q)
        new = q.outputs[0]
    new.type, new.shape = ir.TensorType(ir.DataType.UINT8), old.shape
    graph.outputs[position] = new
    old.name, new.name = fresh(f"{name}_float"), name
    if last is not None and not old.uses() and last.op_type == "DequantizeLinear":
        graph.remove(last, safe=True)
    return params


def _params(node: ir.Node) -> QParams:
    scale, zero_point = (value.const_value for value in node.inputs[1:3] if value is not None)
    assert scale is not None and zero_point is not None
    return QParams(float(scale.numpy()), int(zero_point.numpy()))


def _constants(graph: ir.Graph, fresh: Fresh, name: str, params: QParams) -> tuple[ir.Value, ir.Value]:
    arrays: dict[str, Array] = {
        "scale": np.array(params.scale, np.float32),
        "zero_point": np.array(params.zero_point, np.uint8),
    }
    values = []
    for part, array in arrays.items():
        own = fresh(f"{name}_port_{part}")
        values.append(ir.val(own, const_value=ir.tensor(array, name=own)))
        graph.register_initializer(values[-1])
    return values[0], values[1]


def _bytes(code: Bytes) -> str:
    scale, zero = code.scale.tolist(), [int(zero) if zero == int(zero) else zero for zero in code.zero.tolist()]
    plain = {"scale": scale[0] if len(scale) == 1 else scale, "zero_point": zero[0] if len(zero) == 1 else zero}
    return json.dumps({**plain, "dtype": "uint8"})


def _code(params: QParams) -> str:
    return json.dumps({"scale": params.scale, "zero_point": params.zero_point, "dtype": "uint8"})
