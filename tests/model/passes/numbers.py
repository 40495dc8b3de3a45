"""Did a rewrite keep the function? Both models run, unoptimized, on the same seeded inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from optimizer.runtime.session import Options, open_session
from tests.builders import model as parse

Arrays = Mapping[str, np.ndarray]


def build(text: str, weights: Arrays | None = None, **options: Any) -> ir.Model:
    """A model from text, with `weights` as its initializers."""
    net = parse(text, **options)
    values = ir.convenience.create_value_mapping(net.graph)
    for name, content in (weights or {}).items():
        value = values[name]
        value.const_value = ir.tensor(content, name=name)
        value.dtype, value.shape = value.const_value.dtype, ir.Shape(content.shape)
        net.graph.register_initializer(value)
    return net


def feed(net: ir.Model, sizes: Mapping[str, int] | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs that fit the model; a symbolic size is 2 unless `sizes` says otherwise."""
    rng = np.random.default_rng(seed)
    found = {}
    for value in net.graph.inputs:
        dims = [dim if isinstance(dim, int) else (sizes or {}).get(str(dim.value), 2) for dim in value.shape or ()]
        dtype = (value.dtype or ir.DataType.FLOAT).numpy()
        found[str(value.name)] = rng.standard_normal(dims).astype(dtype) * (3 if dtype.kind == "f" else 1)
    return found


def run(net: ir.Model, inputs: Arrays) -> list[np.ndarray]:
    """The outputs, by ONNX Runtime without any rewriting of its own."""
    onnx.checker.check_model(ir.to_proto(net))
    return open_session(net, Options(level="none")).run(inputs)


def assert_same(before: ir.Model, after: ir.Model, sizes: Mapping[str, int] | None = None, rtol: float = 1e-5) -> None:
    """Outputs agree to `rtol` of the largest magnitude; names and order of inputs and outputs are the same."""
    for ports in ("inputs", "outputs"):
        assert [value.name for value in getattr(before.graph, ports)] == [
            value.name for value in getattr(after.graph, ports)
        ]
    inputs = feed(before, sizes)
    for want, got in zip(run(before, inputs), run(after, inputs), strict=True):
        assert want.dtype == got.dtype and want.shape == got.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=rtol * max(float(np.abs(want).max(initial=0)), 1e-6))


def ops(net: ir.Model) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for graph in net.graphs() for node in graph)
