"""Models of known relative cost: a chain of equal layers, so that 105 of them cost 5% more than 100."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tests.builders import model


def chain(layers: int, width: int = 64) -> ir.Model:
    """`layers` products of a `width` x `width` matrix, nothing that could be fused or folded."""
    steps = "\n".join(f"v{i + 1} = MatMul(v{i}, w)" for i in range(layers))
    size = f"float[{width},{width}]"
    built = model(f"g ({size} v0, {size} w) => ({size} v{layers}) {{ {steps} }}")
    weight = built.graph.inputs.pop()
    weight.const_value = ir.tensor(np.eye(width, dtype=np.float32))
    built.graph.register_initializer(weight)
    return built
