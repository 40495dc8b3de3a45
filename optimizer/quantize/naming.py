"""Names that nothing in a graph bears yet."""

from __future__ import annotations

import onnx_ir as ir


def distinct(graph: ir.Graph) -> None:
    """Give later ones of nodes that share a name, bodies included, a number behind it: the runtime wants them apart."""
    taken = {node.name for node in ir.traversal.RecursiveGraphIterator(graph)}
    seen: set[str | None] = set()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        number, stem = 0, node.name
        while node.name in seen or (number and node.name in taken):
            number += 1
            node.name = f"{stem}_{number}"
        seen.add(node.name)


class Fresh:
    """Gives the name asked for, or that name with a number where it is taken; every name is given once."""

    def __init__(self, graph: ir.Graph) -> None:
        self.taken = {value.name for value in graph.inputs} | set(graph.initializers)
        for node in ir.traversal.RecursiveGraphIterator(graph):
            self.taken |= {value.name for value in node.outputs}
            for inner in (attribute.as_graph() for attribute in node.attributes.values() if _is_graph(attribute)):
                self.taken |= {value.name for value in inner.inputs} | set(inner.initializers)

    def __call__(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name


def _is_graph(attribute: ir.Attr) -> bool:
    return attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref()
