"""Products summed over an axis: Gemm, MatMul, Einsum and convolutions, plain and of quantized tensors.

A grouped convolution sees its input channels as a grid (group, place in group) and its output channels likewise, so
whole groups go, or the same places of every group, and a depthwise convolution is the case of one place per group.

Quantized: scales and zero points per row of the first and per column of the second factor go with them. Masking writes
the zero point into quantized constants, so that they stand for zero; an activation's zero point is no zero, so nothing
is claimed of a result that is a code.
"""

from __future__ import annotations

from collections.abc import Mapping

from optimizer.ops.axes.op import Op, Refuse
from optimizer.ops.axes.rules import MS, rule, say
from optimizer.ops.axes.sentence import Says

_WINDOW = "slides a window over this axis"


def convolution(text: str) -> Says:
    """A sentence about n x (groups x inputs) x window."""
    return Says(text, whole=_WINDOW, counts={"group": "g"})


say("Conv", convolution("n(gi)*, (go)i_, +(go) -> n(go)*"))
say("ConvTranspose", convolution("n(gi)*, (gi)o_, +(go) -> n(go)*"))
say("ConvInteger", convolution("n(gi)*, (go)i_, /_, /_ -> n(go)*"), quantized={0: 2, 1: 3})
say("QLinearConv", convolution("n(gi)*, /_, /_, (go)i_, /(go), /(go), /_, /_, +(go) -> ~n(go)*"),
    quantized={0: 2, 3: 5, 8: None})  # fmt: skip


def _activated(op: Op) -> str:
    """What a fused activation leaves of zeros: a mark for the result."""
    return "" if op.text("activation", "Relu") in ("Relu", "LeakyRelu", "Tanh") else "~"


@rule("FusedConv", domain=MS)
def fused_conv(op: Op) -> Says:
    """The fourth input is added."""
    return convolution(f"n(gi)*, (go)i_, +(go), +n(go)* -> {_activated(op)}n(go)*")


def product(
    name: str, template: str, *, b: int = 1, domain: str = "", quantized: Mapping[int, int | None] | None = None
) -> None:
    """Register a[..., m, k] b[..., k, n] of inputs 0 and `b`, each perhaps transposed; vectors lack m or n.

    {a}, {b} and {y} in the template are the axes of the factors and of the product, {c} those of what is added.
    """

    def found(op: Op) -> Says:
        if op.number("transBatchA", 0) or op.number("transBatchB", 0):
            raise Refuse("turns a stack of matrices")
        left, right = ("km", "mk")[not op.number("transA", 0)], ("nk", "kn")[not op.number("transB", 0)]
        rows, columns = len(op.input(0)) > 1, len(op.input(b)) > 1
        y = "..." + "m" * rows + "n" * columns
        given = {"a": "..." + left if rows else "k", "b": "..." + right if columns else "k", "c": y}
        text = template.format(**given, y=_activated(op) + y)
        sums = "...mk" if name == "DynamicQuantizeMatMul" else ""
        return Says(text, sums=sums, heads="" if any(op.constant(i) for i in (0, b)) else "...")

    codes = (index for index, operand in enumerate(template.split(",")) if operand.strip().startswith("/"))
    rule(name, domain=domain, raw=tuple(codes), quantized=quantized)(found)


product("MatMul", "{a}, {b} -> {y}")
product("FusedMatMul", "{a}, {b} -> {y}", domain=MS)
product("Gemm", "{a}, {b}, +{c} -> {y}")
product("FusedGemm", "{a}, {b}, +{c} -> {y}", domain=MS)
product("MatMulInteger", "{a}, {b}, /m, /n -> {y}", quantized={0: 2, 1: 3})
product("QLinearMatMul", "{a}, /m, /m, {b}, /n, /n, /_, /_ -> ~{y}", b=3, quantized={0: 2, 3: 5})
product("MatMulIntegerToFloat", "{a}, {b}, /m, /n, /m, /n, +{c} -> {y}", domain=MS, quantized={0: 4, 1: 5})
product("DynamicQuantizeMatMul", "{a}, {b}, /n, /n, +{c} -> {y}", domain=MS, quantized={1: 3})
product("QGemm", "{a}, /m, /m, {b}, /n, /n, +{c}, /_, /_ -> ~{y}", b=3, domain=MS, quantized={0: 2, 3: 5, 6: None})


@rule("Einsum")
def einsum(op: Op) -> Says:
    """Letters as they stand; an ellipsis is the leading axes, aligned from the right."""
    equation = op.text("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    if not arrow:
        once = sorted(letter for letter in set(left) - set(".,") if left.count(letter) == 1)
        right = "..." * ("..." in left) + "".join(once)
    shared = set(right).intersection(*left.split(","))
    names = {letter: f"a{number}" for number, letter in enumerate(sorted(set(equation) - set(".,->")))}
    text = "".join(names.get(sign, sign) for sign in f"{left}->{right}")
    constant = any(op.constant(index) for index in range(len(op.node.inputs)))
    return Says(text, heads="" if constant else "".join(names[letter] for letter in sorted(shared - {"."})))
