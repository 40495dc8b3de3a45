"""The nine light models of the onnx wheel, with random weights in place of their fill constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from optimizer.model import io

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = sorted(path.stem.removeprefix("light_") for path in FOLDER.glob("light_*.onnx"))


def light(name: str, seed: int = 0) -> ir.Model:
    """The model with weights that neither blow up nor die out, less the final Softmax, which would hide differences."""
    model = io.load(FOLDER / f"light_{name}.onnx")
    rng = np.random.default_rng(seed)
    for node in list(model.graph):
        if node.op_type == "ConstantOfShape":
            _fill(model.graph, node, rng)
    _drop_softmax(model.graph)
    model.ir_version = max(model.ir_version, 8)
    model.graph.inputs[:] = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    for name in [name for name, value in model.graph.initializers.items() if not value.uses()]:
        del model.graph.initializers[name]
    return model


def _drop_softmax(graph: ir.Graph) -> None:
    last = graph.outputs[0].producer()
    if last.op_type == "Softmax":
        last.inputs[0].shape, last.inputs[0].type = last.outputs[0].shape, last.outputs[0].type
        graph.outputs[0] = last.inputs[0]
        graph.remove(last, safe=True)


def _fill(graph: ir.Graph, node: ir.Node, rng: np.random.Generator) -> None:
    shape = node.inputs[0].const_value.numpy()
    user, index = node.outputs[0].uses()[0]
    tensor = ir.tensor(_weights(rng, [int(n) for n in shape], user.op_type, index), name=f"{node.outputs[0].name}_w")
    value = ir.Value(name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    ir.convenience.replace_all_uses_with(node.outputs[0], value)
    graph.remove(node, safe=True)


def _weights(rng: np.random.Generator, shape: list[int], op: str, index: int) -> npt.NDArray[np.float32]:
    if op in ("Mul", "Unsqueeze") or (op == "BatchNormalization" and index in (1, 4)):
        return rng.uniform(0.6, 1.2, shape).astype(np.float32)
    if len(shape) == 1:
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    scale = np.sqrt((0.02 if op == "Gemm" else 1.0) * 2 / np.prod(shape[1:]))
    return (scale * rng.standard_normal(shape)).astype(np.float32)
