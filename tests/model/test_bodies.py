"""What nodes read in their bodies."""

from __future__ import annotations

from optimizer.model import bodies
from tests.builders import model

NESTED = """g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
  a = Neg (x)  b = Exp (x)
  y = If (c) <
    then_branch = t () => (float[2] r) { u = Mul (b, a)  v = Add (u, u)
      r = If (c) <then_branch = s () => (float[2] m) { n = Add (v, w)  m = Neg (n) },
                  else_branch = o () => (float[2] k) { k = Identity (x) }> },
    else_branch = e () => (float[2] l) { l = Neg (a) }> }"""


def test_a_node_reads_its_inputs_and_what_its_bodies_take_from_outside_in_the_order_of_the_model() -> None:
    node = next(node for node in model(NESTED).graph if node.op_type == "If")
    assert [value.name for value in bodies.read(node)] == ["c", "b", "a", "c", "w", "x", "a"]
    assert [value.name for value in bodies.captured(node)] == ["b", "a", "c", "w", "x", "a"]
    assert [graph.name for graph in bodies.subgraphs(node)] == ["t", "e"]
