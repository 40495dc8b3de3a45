"""Fused groups: the unit in which quantization decides between int8 and float.

A group is one node that has an int8 kernel (`ops.int8`), its *head*, with the nodes behind it that the kernel absorbs:

  * a constant bias ``Add`` behind a MatMul by a constant (last axis, one value per output channel);
  * a ``Relu`` or a ``Clip`` with constant bounds around zero: the range of the output's uint8 does the clipping, so
    the node goes.

A node is absorbed only if it is the sole reader of the value before it and that value is no graph output. Every other
node of the graph stays in float, with its reason.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array
from optimizer.ops import int8


@dataclasses.dataclass(frozen=True)
class Group:
    """One decision. Values and nodes are named, so that the group holds for every clone of the model."""

    name: str
    """The head node's name."""
    op: str
    rule: int8.Rule
    nodes: tuple[str, ...]
    """Head first, tail last."""
    inputs: tuple[str, ...]
    """Activations the group reads in int8, each once."""
    outputs: tuple[str, ...]
    weight: str | None = None
    bias: str | None = None
    low: float = -math.inf
    """Bounds of the output that the absorbed Relu or Clip sets."""
    high: float = math.inf

    @property
    def output(self) -> str:
        return self.outputs[0]


@dataclasses.dataclass(frozen=True)
class Partition:
    """All groups in topological order, and why each remaining node stays in float (by node name)."""

    groups: tuple[Group, ...]
    floats: dict[str, str]


def partition(model: ir.Model) -> Partition:
    """Split the main graph of `model` into groups. Nodes and values must have names, shapes should be inferred."""
    groups: list[Group] = []
    floats: dict[str, str] = {}
    absorbed: set[str] = set()
    for node in model.graph:
        if node.name in absorbed:
            continue
        reason = int8.refusal(node) or _untyped(node)
        if reason is not None:
            floats[_name(node)] = reason
            continue
        group = _group(node)
        absorbed |= set(group.nodes)
        groups.append(group)
    return Partition(tuple(groups), floats)


def _group(head: ir.Node) -> Group:
    rule = int8.RULES[head.op_type]
    weighted = rule.role == "weighted" and int8.constant(head.inputs[1]) is not None
    chain, low, high = [head], -math.inf, math.inf
    bias = head.inputs[2] if weighted and len(head.inputs) > 2 else None
    if weighted and head.op_type == "MatMul" and (add := _bias_add(head)) is not None:
        chain.append(add)
        bias = next(value for value in add.inputs if value is not head.outputs[0])
    if rule.role in ("weighted", "product", "binary") and (bounds := _clip(chain[-1])) is not None:
        node, low, high = bounds
        chain.append(node)
    return Group(
        name=_name(head),
        op=head.op_type,
        rule=rule if weighted or rule.role != "weighted" else dataclasses.replace(rule, role="product"),
        nodes=tuple(_name(node) for node in chain),
        inputs=tuple(dict.fromkeys(_activations(head, rule))),
        outputs=tuple(value.name or "" for value in chain[-1].outputs),
        weight=head.inputs[1].name if weighted and head.inputs[1] is not None else None,
        bias=bias.name if bias is not None else None,
        low=low,
        high=high,
    )


def _activations(head: ir.Node, rule: int8.Rule) -> list[str]:
    read = head.inputs[:1] if rule.role in ("unary", "view") else head.inputs
    return [value.name or "" for value in read if value is not None and int8.constant(value) is None]


def _untyped(node: ir.Node) -> str | None:
    """Int8 stands in for float32 only; shapes, indices and masks pass through views as well."""
    for value in (*node.inputs[:1], *node.outputs):
        if value is not None and value.dtype not in (ir.DataType.FLOAT, None):
            return f"works on {value.dtype.name.lower() if value.dtype else 'unknown'} values"
        if value is not None and value.dtype is None:
            return "the type of its values is not known"
    read = node.inputs if node.op_type in ("Concat", "Add", "Mul") else node.inputs[:1]
    return "what it reads is constant" if all(int8.constant(value) is not None for value in read) else None


def sole_reader(value: ir.Value) -> ir.Node | None:
    """The only node that reads `value`, if there is exactly one use and the value is no graph output."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _bias_add(head: ir.Node) -> ir.Node | None:
    reader = sole_reader(head.outputs[0])
    if reader is None or reader.op_type != "Add" or reader.domain or reader.graph is not head.graph:
        return None
    other = next((value for value in reader.inputs if value is not head.outputs[0]), None)
    weight, array = int8.constant(head.inputs[1]), int8.constant(other)
    if weight is None or array is None or array.size != weight.shape[1] or array.shape[-1:] != weight.shape[1:]:
        return None
    rank = int8.rank(head.outputs[0]) or 0
    return reader if rank >= 2 and array.ndim <= rank else None


def _clip(last: ir.Node) -> tuple[ir.Node, float, float] | None:
    reader = sole_reader(last.outputs[0])
    if reader is None or reader.domain or reader.graph is not last.graph:
        return None
    if reader.op_type == "Relu":
        return reader, 0.0, math.inf
    if reader.op_type != "Clip":
        return None
    low, high = _bound(reader, 1, "min", -math.inf), _bound(reader, 2, "max", math.inf)
    if low is None or high is None or low > 0.0 or high <= 0.0:
        return None
    return reader, low, high


def _bound(clip: ir.Node, index: int, name: str, default: float) -> float | None:
    """A Clip bound, an attribute before opset 11 and an input since; None if it is not constant."""
    if name in clip.attributes:
        return clip.attributes[name].as_float()
    if len(clip.inputs) <= index or clip.inputs[index] is None:
        return default
    array: Array | None = int8.constant(clip.inputs[index])
    return None if array is None else float(np.asarray(array).reshape(()))


def _name(node: ir.Node) -> str:
    return node.name or ""
