"""What training changes in a model, and how it gets back into it.

A constant is learnt when a row of the evaluator's table says that the input it feeds is a weight, directly or through
nodes that only rearrange it (`PASSING`); as the bias or factor of an Add or Mul only where it is a vector along one
axis of moderate size: a matrix there is rather a mask or a table of positions, and a number a constant of the formula.
Quantized weights and scales: see `encoded`. Everything else in the model stays as it is, byte by byte.

Exact zeros in a weight stay zeros (they were pruned), and in a vector too, unless it is zero altogether (then it is a
bias that starts there).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array
from optimizer.train.constants import Constant, constants
from optimizer.train.dtypes import FLOATS, channels_last, to_torch
from optimizer.train.encoded import Encoded
from optimizer.train.evaluator import Evaluator
from optimizer.train.rows import ROWS
from optimizer.train.slots import Float, Slot
from optimizer.train.table import Tensor, key

PASSING = {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "QuantizeLinear",
           "DequantizeLinear"}  # fmt: skip
"""Ops that a weight may pass (as their first input) between where it is stored and where it is used."""
LARGEST = 1e4
"""A vector with a larger value is a mask or a table, not a bias."""


class Parameters:
    """The learnable constants of `evaluator.model`, written back into `model` (the same graph, functions and all)."""

    def __init__(self, evaluator: Evaluator, model: ir.Model) -> None:
        self.torch = evaluator.torch
        stored = constants(model)
        held = {constant.value: constant for constant in _own(evaluator.model, stored)}
        nodes = evaluator.every_node()
        encoded = Encoded(self.torch, nodes, held).slots()
        taken = {slot.constant.key for slot in encoded}
        plain = [found for found in _weights(nodes, held) if found.key not in taken]
        self.slots: list[Slot] = [*encoded, *(self._float(found) for found in plain)]
        self.tensors: dict[str, Tensor] = {}
        seen: set[int] = set()
        for slot in self.slots:
            if slot.learnt is not None and id(slot.learnt) not in seen:
                seen.add(id(slot.learnt))
                self.tensors[slot.constant.key] = slot.learnt.requires_grad_()

    def _float(self, constant: Constant) -> Float:
        learnt = channels_last(self.torch, to_torch(self.torch, constant.array()))
        zeros = learnt == 0
        pruned = bool(zeros.any()) and (learnt.ndim > 1 or not bool(zeros.all()))
        return Float(constant, learnt, (~zeros).to(learnt.dtype) if pruned else None)

    @property
    def count(self) -> int:
        """How many numbers are learnt."""
        return sum(int(tensor.numel()) for tensor in self.tensors.values())

    def given(self) -> dict[ir.Value, Tensor]:
        """What the graph reads in place of its constants, now."""
        return {slot.constant.value: slot.value() for slot in self.slots}

    def decayed(self) -> set[str]:
        """The keys of the tensors that weight decay applies to."""
        return {slot.constant.key for slot in self.slots if slot.matrix} & set(self.tensors)

    def write(self, model: ir.Model) -> None:
        """Put the current values into the constants of `model` (the model the parameters came from, or its clone)."""
        with self.torch.no_grad():
            stored = constants(model)
            for slot in self.slots:
                stored[slot.constant.key].replace(slot.array())

    def state(self) -> dict[str, Array]:
        """A copy of all learnt tensors by key."""
        return {name: np.array(tensor.detach().numpy(), order="C") for name, tensor in self.tensors.items()}

    def load(self, state: Mapping[str, Array]) -> None:
        """Set all learnt tensors to what `state` returned."""
        with self.torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(self.torch.from_numpy(state[name]))


def _own(model: ir.Model, stored: Mapping[str, Constant]) -> Iterator[Constant]:
    """The constants of the evaluated model that the stored one has too. (Those of functions are not learnt.)"""
    for name, constant in constants(model).items():
        same = stored.get(name)
        if same is not None and same.dtype == constant.dtype and same.tensor.shape == constant.tensor.shape:
            yield dataclasses.replace(constant, key=name)


def _weights(nodes: list[ir.Node], held: Mapping[ir.Value, Constant]) -> list[Constant]:
    found: dict[str, Constant] = {}
    for node in nodes:
        row = ROWS[key(node)]
        for index, value in enumerate(node.inputs):
            constant = _source(value, held) if index in row.weights or index in row.vectors else None
            if constant is None or constant.dtype not in FLOATS:
                continue
            if index in row.weights or _is_vector(constant):
                found.setdefault(constant.key, constant)
    return list(found.values())


def _source(value: ir.Value | None, held: Mapping[ir.Value, Constant]) -> Constant | None:
    while value is not None and value not in held:
        node = value.producer()
        if node is None or key(node) not in PASSING:
            return None
        value = node.inputs[0]
    return None if value is None else held[value]


def _is_vector(constant: Constant) -> bool:
    shape = tuple(constant.tensor.shape.numpy())
    size = max(shape, default=1)
    count = 1
    for length in shape:
        count *= length
    return size > 1 and count == size and bool(abs(constant.array()).max() < LARGEST)
