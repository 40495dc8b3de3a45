"""LSTM, GRU and RNN: one label per hidden unit.

    W[dir, gates*H, in]  R[dir, gates*H, H]  B[dir, 2*gates*H]  P[dir, 3*H]  h0, c0[dir, batch, H]
    Y[time, dir, batch, H]  Y_h, Y_c[dir, batch, H]

Unit u is at gate*H + u of every gate, in the columns of R, in both halves of B, in the initial states and the results.
A unit without weights keeps its state at zero if it starts there and the activations are the usual ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optimizer.ops.axes.rule import Axis, Cut, Layout, Op, Refuse, fixed, rule

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def shrink(node: ir.Node, cut: Cut) -> None:
    """`hidden_size` becomes the number of units that stay."""
    node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", int(cut.keep(node.inputs[2], 2).sum()))


@rule("LSTM", "GRU", "RNN", patch=shrink)
def recurrent(op: Op) -> Sequence[Layout | None]:
    """x[time, batch, in], W, R, B, lengths, h0, c0, P."""
    if op.number("layout", 0):
        raise Refuse("has the batch first")
    x, w, r = op.input(0), op.input(1), op.input(2)
    gates, units = _GATES[op.node.op_type], r[2]
    if op.has(4):
        op.freeze("has a length for each", *op.input(4))
    op.contract(x[2], w[2])
    op.freeze("goes along this axis in order", x[0])
    op.freeze("", *(op.input(index)[0] for index in (1, 2, 3, 7) if op.has(index)))
    for axis, copies in _gated(op, w, r, gates):
        op.align(axis, op.merge([fixed(copies), units]))
    states = [op.input(index) for index in (5, 6) if op.has(index)]
    for state in states:
        op.freeze("", state[0])
        op.align(state[1], x[1])
        op.align(state[2], units)
    zero = "activations" not in op.node.attributes and all(state[2].zero for state in states)
    batch = op.axis(x[1].labels, False, x[1].open)
    step: Layout = (fixed(len(w[0].labels)), batch, op.axis(units.labels, zero and units.zero))
    return (fixed(op.dims()[0] if op.used(0) else None), *step), step, step


def _gated(op: Op, w: Layout, r: Layout, gates: int) -> list[tuple[Axis, int]]:
    """The axes that hold all units once per gate, and how often."""
    found = [(w[1], gates), (r[1], gates)]
    if op.has(3):
        found.append((op.input(3)[1], 2 * gates))
    if op.has(7):
        found.append((op.input(7)[1], 3))
    return found
