"""Whole residual blocks: y = x + f(x) becomes y = x where that changes the output least.

A block is an Add of two values of one shape of which one (the shortcut) is an ancestor of the other (the branch), and
whose branch becomes exactly zero by zeroing constants of its own: the weights and bias it ends in, or its layer scale.
So the model without the block and the model with the zeroed constants give the same outputs.

The choice is greedy on sample data: every branch gets a gate (a factor that is a graph input), so that one session
answers for all blocks what is left of the output without them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.dead import remove_identities, remove_unused
from optimizer.model.passes.edit import content, store
from optimizer.model.ports import Feed
from optimizer.ops.axes import describe, dims
from optimizer.ops.axes.rows.pointwise import ZERO
from optimizer.runtime.session import open_session

SAMPLES = 4
"""Samples the choice is made on."""
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "BatchNormalization", "LayerNormalization", "InstanceNormalization",
             "GroupNormalization"}  # fmt: skip
"""Ops whose result is zero if inputs 1 and 2 are."""
_PASSING = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand", *ZERO.split()}
"""Ops of zeros that give zeros."""


@dataclasses.dataclass(frozen=True)
class Block:
    """One Add, which of its inputs is the branch, and the constants that end the branch."""

    add: ir.Node
    branch: int
    ends: tuple[ir.Value, ...]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """The model without some blocks, the model with their ends zeroed, and the Adds that went, by name."""

    removed: ir.Model
    masked: ir.Model
    names: tuple[str, ...]


def blocks(graph: ir.Graph) -> list[Block]:
    """All blocks that could be skipped, in graph order."""
    return [block for node in graph if node.op_type == "Add" and node.domain == "" for block in _blocks(node)]


def _blocks(node: ir.Node) -> list[Block]:
    for branch in (1, 0):
        value, shortcut = node.inputs[branch], node.inputs[1 - branch]
        if value is None or (shape := dims(shortcut)) is None or shape != dims(node.outputs[0]):
            continue
        if shortcut in _ancestors(value) and (found := ends(value)) is not None:
            return [Block(node, branch, tuple(dict.fromkeys(found)))]
    return []


def _ancestors(value: ir.Value) -> set[ir.Value]:
    found: set[ir.Value] = set()
    stack = [value]
    while stack:
        producer = stack.pop().producer()
        new = {given for given in (producer.inputs if producer else ()) if given is not None} - found
        found |= new
        stack += new
    return found


def ends(value: ir.Value) -> list[ir.Value] | None:
    """Constants of nobody else whose zeroing makes `value` zero; None if there are none such."""
    if value.const_value is not None:
        return [value] if len(value.uses()) == 1 and not value.is_graph_output() else None
    node = value.producer()
    if node is None or node.domain:
        return None
    given = [one for one in node.inputs if one is not None]
    if node.op_type in _WEIGHTED:
        return _all(given[1:3])
    if node.op_type in ("Mul", "MatMul"):
        first = sorted(given, key=lambda one: one.const_value is None)
        return next((found for one in first if (found := ends(one)) is not None), None)
    if node.op_type in ("Add", "Sub"):
        return _all(given)
    return ends(given[0]) if given and node.op_type in _PASSING else None


def _all(values: Sequence[ir.Value]) -> list[ir.Value] | None:
    found = [ends(value) for value in values]
    return None if None in found else [end for one in found for end in one or ()]


def skip(model: ir.Model, feeds: Sequence[Feed], enough: Callable[[ir.Model], bool]) -> Skipped:
    """Skip blocks, the least important first, until `enough` says so of the model without them."""
    count = len(blocks(model.graph))
    left, chosen, names = list(range(count)), list[int](), list[str]()
    removed = model
    gated = _Gated(model, feeds) if count else None
    while left and gated is not None and not enough(removed):
        costs = [gated.change([*chosen, index]) for index in left]
        chosen.append(left.pop(int(np.argmin(costs))))
        removed, names = _without(model, chosen)
    return Skipped(removed, _zeroed(model, chosen), tuple(names))


def worth(model: ir.Model, feeds: Sequence[Feed]) -> list[tuple[str, float]]:
    """The blocks by name, and how much the outputs change without each, as a share of their power."""
    found = blocks(model.graph)
    if not found or not feeds:
        return []
    gated = _Gated(model, feeds)
    changes = [gated.change([index]) / len(feeds) for index in range(len(found))]
    return [(describe(block.add), change) for block, change in zip(found, changes, strict=True)]


class _Gated:
    """The model with a gate at every branch, and what it answers while all are open."""

    def __init__(self, model: ir.Model, feeds: Sequence[Feed]) -> None:
        gates = {_gate(number): np.asarray(np.float32(1)) for number in range(len(blocks(model.graph)))}
        self._session = open_session(_gated(model))
        self._feeds = [{**feed, **gates} for feed in feeds]
        self._open = [[one.astype(np.float64) for one in self._session.run(feed)] for feed in self._feeds]

    def change(self, closed: Sequence[int]) -> float:
        """Squared change of the outputs relative to their size, over all feeds, with these gates closed."""
        shut = {_gate(number): np.asarray(np.float32(0)) for number in closed}
        total = 0.0
        for feed, before in zip(self._feeds, self._open, strict=True):
            for a, b in zip(before, self._session.run({**feed, **shut}), strict=True):
                total += float(np.square(a - b).sum() / max(np.square(a).sum(), 1e-30))
        return total


def _gated(model: ir.Model) -> ir.Model:
    copy = model.clone()
    for number, block in enumerate(blocks(copy.graph)):
        branch = block.add.inputs[block.branch]
        assert branch is not None
        gate = ir.Value(name=_gate(number), shape=ir.Shape([]), type=branch.type)
        copy.graph.inputs.append(gate)
        product = ir.node("Mul", [branch, gate])
        product.outputs[0].name = product.name = f"{_gate(number)} product"
        copy.graph.insert_before(block.add, product)
        block.add.replace_input_with(block.branch, product.outputs[0])
    return copy


def _gate(number: int) -> str:
    return f"optimize gate {number}"


def _without(model: ir.Model, chosen: Sequence[int]) -> tuple[ir.Model, list[str]]:
    copy = model.clone()
    found = blocks(copy.graph)
    names = [describe(found[index].add) for index in sorted(chosen)]
    for block in (found[index] for index in sorted(chosen)):
        shortcut = block.add.inputs[1 - block.branch]
        assert shortcut is not None
        block.add.replace_input_with(0, shortcut)
        block.add.resize_inputs(1)
        block.add.op_type = "Identity"
    remove_identities(copy)
    remove_unused(copy)
    return copy, names


def _zeroed(model: ir.Model, chosen: Sequence[int]) -> ir.Model:
    copy = model.clone()
    found = blocks(copy.graph)
    for value in (end for index in chosen for end in found[index].ends):
        store(value, np.zeros_like(content(value)))
    return copy
