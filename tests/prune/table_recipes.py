"""One step of a random graph for any row of the rule table: the row's example, grown into the graph.

The example's activations are made of the image's channels (all pixels' mean, through a weight), its weights and
constants are constants, and what it computes goes through a weight back onto the image's channels. So what is removed
upstream reaches the op, and what the op ties together reaches other layers.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir

from tests.ops.examples import Example
from tests.ops.test_axes import build
from tests.prune.graph_builder import Builder

_SPREAD, _LOWEST = 0.7, 0.2
"""Activations lie in 0.2..0.9, where the examples' ops are defined."""


def _results(example: Example) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of what an example computes."""
    return tuple((value.name, tuple(value.shape.numpy())) for value in build(example).model.graph.outputs)


def row(b: Builder, example: Example) -> None:
    """Add an example to the graph; the image's channels get what it computes."""
    x, c, s = b.images[-1]
    mean = b.op(f"ReduceMean ({b.op(f'GlobalAveragePool ({x})')}, {b.ints(0)})")
    source = b.op(f"Flatten ({mean})")
    names = {}
    for port in onnx.parser.parse_graph(f"g ({example.inputs}) => () {{ }}").input:
        names[port.name] = _given(b, example, port, source, c)
    results = _results(example)
    names |= {name: b.name() for name in re.findall(r"\b[ys]\d?\b", example.node)}
    b.opset = max(b.opset, example.opset)
    b.lines.append(re.sub(r"\b\w+\b", lambda word: names.get(word[0], word[0]), example.node))
    for name, shape in results:
        x = _added(b, x, c, names[name], int(np.prod(shape)))
    b.images.append((x, c, s))


def _given(b: Builder, example: Example, port: onnx.ValueInfoProto, source: str, c: int) -> str:
    """An input of the example: a constant, or channels of the image seen in the shape and type that is wanted."""
    shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type))
    if port.name in example.constants:
        return b.constant(example.constants[port.name], dtype.type)
    if port.name[0] == "w":
        low, high = (1, 3) if dtype.kind in "iu" else (_LOWEST, _LOWEST + _SPREAD)
        return b.constant(b.rng.uniform(low, high, shape), dtype.type)
    y = b.op(f"MatMul ({source}, {b.weight(c, int(np.prod(shape)))})")
    plain = dtype.kind == "f" and b.rng.random() < 0.3
    y = b.op(f"Abs ({y})") if plain else b.op(f"Mul ({b.op(f'Sigmoid ({y})')}, {b.constant(_SPREAD)})")
    y = y if plain else b.op(f"Add ({y}, {b.constant(_LOWEST)})")
    y = b.op(f"Reshape ({y}, {b.ints(*shape)})")
    if dtype.kind == "b":
        return b.op(f"Greater ({y}, {b.constant(_LOWEST + _SPREAD / 2)})")
    to = int(ir.DataType.from_numpy(dtype))
    return y if dtype == np.float32 else b.op(f"Cast <to={to}> ({b.op(f'Add ({y}, {b.constant(1)})')})")


def _added(b: Builder, image: str, c: int, result: str, size: int) -> str:
    """The image plus what a result says of each channel. Numbers that are none become 0."""
    y = b.op(f"Flatten <axis=0> ({b.op(f'Cast <to=1> ({result})')})")
    y = b.op(f"Clip ({y}, {b.constant(-1e3)}, {b.constant(1e3)})")
    y = b.op(f"Where ({b.op(f'IsNaN ({y})')}, {b.constant(0)}, {y})")
    y = b.op(f"Tanh ({b.op(f'MatMul ({y}, {b.weight(size, c, scale=size**-0.5 * c**0.5)})')})")
    return b.op(f"Add ({image}, {b.op(f'Reshape ({y}, {b.ints(1, c, 1, 1)})')})")
