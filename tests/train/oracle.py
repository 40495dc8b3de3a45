"""ONNX Runtime as the oracle of the evaluator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array, Feed
from optimizer.runtime.session import Options, open_session
from optimizer.train.evaluator import Evaluator


def relative_error(found: Array, expected: Array) -> float:
    """The largest difference, relative to the largest magnitude of the expected output."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    if not expected.size:
        return 0.0
    scale = max(float(np.abs(expected.astype(np.float64)).max()), 1e-6)
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()) / scale


def parity(model: ir.Model, feed: Feed) -> float:
    """The largest relative error of any output of the evaluator against ONNX Runtime."""
    expected = open_session(model, Options(level="none")).run(feed)
    found = Evaluator(model).numpy(feed)
    return max(relative_error(a, b) for a, b in zip(found, expected, strict=True))


def filled(model: ir.Model, seed: int = 0) -> ir.Model:
    """The model with every constant-of-shape weight replaced by a random initializer of that shape."""
    random = np.random.default_rng(seed)
    for node in list(model.graph):
        if node.op_type != "ConstantOfShape":
            continue
        assert node.inputs[0] is not None and node.inputs[0].const_value is not None
        shape = [int(size) for size in node.inputs[0].const_value.numpy()]
        out = node.outputs[0]
        fan = max(int(np.prod(shape[1:])), 1)
        values = random.normal(0, fan**-0.5, shape) if len(shape) > 1 else random.uniform(0.5, 1.5, shape)
        out_name = out.name
        fresh = ir.Value(name=out_name, const_value=ir.tensor(values.astype(np.float32), name=out_name))
        fresh.shape, fresh.dtype = ir.Shape(shape), ir.DataType.FLOAT
        out.replace_all_uses_with(fresh)
        model.graph.remove(node, safe=True)
        model.graph.register_initializer(fresh)
    return model


def unsaturated(model: ir.Model) -> ir.Model:
    """`model` with what each Softmax at its end reads as one more output: random weights drive it to 0 and 1, where any
    two evaluators agree."""
    for node in [value.producer() for value in model.graph.outputs]:
        source = node.inputs[0] if node is not None and node.op_type == "Softmax" else None
        if source is not None and not source.is_graph_output():
            source.type = source.type or ir.TensorType(ir.DataType.FLOAT)
            model.graph.outputs.append(source)
    return model
