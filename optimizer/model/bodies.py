"""Graphs inside nodes: the branches of an If, the bodies of Loop and Scan."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that the attributes of `node` hold."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, in the order of the model: its inputs, and what its bodies take from outside."""
    yield from (value for value in node.inputs if value is not None)
    yield from captured(node)


def captured(node: ir.Node) -> Iterator[ir.Value]:
    """What the bodies of a node take from outside."""
    for body in subgraphs(node):
        own = [body, *body.subgraphs()]
        reading = (*(part.inputs for part in body.all_nodes()), *(one.outputs for one in own))
        yield from (value for values in reading for value in values if value is not None and value.graph not in own)
