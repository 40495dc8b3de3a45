"""The constants of a model - initializers and Constant nodes, those of subgraphs too - by a key that is unique in it.

The key is the name of the value. Branches of an If may use one name twice: the second is `name#2`, in the order of the
walk, which is the same for a model and its clone.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

import onnx_ir as ir

from optimizer.model.ports import Array


@dataclasses.dataclass(frozen=True)
class Constant:
    """A tensor that the model holds. `node` is the Constant node it comes from, None for an initializer."""

    key: str
    value: ir.Value
    node: ir.Node | None

    @property
    def tensor(self) -> ir.TensorProtocol:
        found = self.value.const_value if self.node is None else self.node.attributes["value"].as_tensor()
        if found is None:
            raise ValueError(f"{self.key} holds no tensor")
        return found

    @property
    def dtype(self) -> ir.DataType:
        return self.tensor.dtype

    def array(self) -> Array:
        found: Array = self.tensor.numpy()
        return found

    def replace(self, array: Array) -> None:
        """Put other numbers in, of the same shape and type; the name stays."""
        fresh = ir.Tensor(array.reshape(tuple(self.tensor.shape.numpy())), dtype=self.dtype, name=self.tensor.name)
        if self.node is None:
            self.value.const_value = fresh
        else:
            self.node.attributes["value"] = ir.AttrTensor("value", fresh)


def constants(model: ir.Model) -> dict[str, Constant]:
    """All constants of `model` by key, in the order of the walk."""
    seen: collections.Counter[str] = collections.Counter()
    found: dict[str, Constant] = {}
    for value, node in _walk(model):
        name = value.name or ""
        seen[name] += 1
        key = name if seen[name] == 1 else f"{name}#{seen[name]}"
        found[key] = Constant(key, value, node)
    return found


def _walk(model: ir.Model) -> Iterator[tuple[ir.Value, ir.Node | None]]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value, None
        for node in graph:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and "value" in node.attributes:
                yield node.outputs[0], node
