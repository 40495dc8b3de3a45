"""Which groups to compute in int8: the cheapest set, exactly, as a minimum cut.

Let x_g = 1 where group g is int8. With costs in microseconds the time of the whole is

    sum over groups   float_g * (1 - x_g) + int8_g * x_g
  + sum over values   quantize_v    where v is written in float and some int8 group reads it   (one Q serves all)
  + sum over values   dequantize_v  where v is written in uint8 and some reader wants float    (one DQ serves all)

Both border terms are products of "the writer is on one side" and "some reader is on the other", so the sum is
submodular and its minimum is a minimum s-t cut (source side = int8): an auxiliary vertex per value and kind stands for
"some reader", tied to the readers with infinite capacity. Nodes without an int8 kernel and the graph's own inputs and
outputs are float readers or writers that cannot move. A group that can write float pays no dequantize.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable

import onnx_ir as ir

from optimizer.quantize.groups import Group
from optimizer.quantize.mincut import Network


@dataclasses.dataclass(frozen=True)
class Costs:
    """Microseconds per run: (float, int8) by group name; Q and DQ by value name."""

    groups: dict[str, tuple[float, float]]
    quantize: dict[str, float]
    dequantize: dict[str, float]


def choose(model: ir.Model, groups: Iterable[Group], costs: Costs, uint8_inputs: Iterable[str] = ()) -> set[str]:
    """Names of the groups to compute in int8. Graph inputs among `uint8_inputs` come as uint8 already."""
    candidates = tuple(groups)
    network = Network()
    for group in candidates:
        in_float, in_int8 = costs.groups[group.name]
        network.add("int8", group.name, in_float)
        network.add(group.name, "float", in_int8)
    for value in readings(model, candidates):
        _border(network, value, costs, value.name in set(uint8_inputs))
    chosen = network.source_side("int8", "float")
    return {group.name for group in candidates if group.name in chosen}


@dataclasses.dataclass(frozen=True)
class Reading:
    """A value, the group that writes it (None: written in float), the groups that read it, and whether anything else
    does."""

    name: str
    writer: Group | None
    readers: tuple[str, ...]
    float_reader: bool


def readings(model: ir.Model, groups: Iterable[Group]) -> list[Reading]:
    """Every value that some group reads or writes."""
    groups = tuple(groups)
    writers = {name: group for group in groups for name in group.outputs}
    readers: dict[str, list[str]] = {name: [] for name in writers}
    for group in groups:
        for name in group.inputs:
            readers.setdefault(name, []).append(group.name)
    values = {value.name: value for value in model.graph.inputs}
    values |= {value.name: value for node in model.graph for value in node.outputs}
    return [
        Reading(name, writers.get(name), tuple(by), _has_float_reader(values[name], set(by)))
        for name, by in readers.items()
    ]


def _has_float_reader(value: ir.Value, readers: set[str]) -> bool:
    return value.is_graph_output() or any(use.node.name not in readers for use in value.uses())


def _border(network: Network, value: Reading, costs: Costs, uint8_input: bool) -> None:
    writer: Hashable = value.writer.name if value.writer is not None else "int8" if uint8_input else "float"
    some_int8, some_float = ("reads int8", value.name), ("reads float", value.name)
    network.add(some_int8, writer, costs.quantize.get(value.name, 0.0))
    for reader in value.readers:
        network.add(reader, some_int8, math.inf)
    if value.writer is not None and value.writer.rule.float_output:
        return
    network.add(writer, some_float, costs.dequantize.get(value.name, 0.0))
    for reader in value.readers:
        network.add(some_float, reader, math.inf)
    if value.float_reader:
        network.add(some_float, "float", math.inf)
