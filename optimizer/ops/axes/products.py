"""Products summed over an axis: Gemm, MatMul, Einsum and convolutions.

An axis of a product is a letter. A letter that several operands have is one axis; one that the result lacks is summed
over, so what is removed there must be zero in one operand at least (masked weights are).

A grouped convolution sees its input channels as a grid (group, place in group) and its output channels likewise:

    x.1 = groups x inputs   w.1 = inputs   w.0 = y.1 = groups x outputs   (transposed: w.0 = x.1, y.1 = groups x w.1)

so whole groups go, or the same places of every group, and a depthwise convolution is the case of one place per group.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import onnx_ir as ir

from optimizer.ops.axes.pointwise import broadcast
from optimizer.ops.axes.rule import MS, Axis, Cut, Layout, Op, Refuse, fixed, rule


def product(op: Op, operands: Sequence[tuple[Layout, str]], out: str) -> Layout:
    """The product of operands whose axes are named by letters, summed over the letters that `out` lacks."""
    found: dict[str, Axis] = {}
    weights = any(value is not None and value.const_value is not None for value in op.node.inputs)
    for letter in dict.fromkeys("".join(letters for _, letters in operands)):
        axes = [layout[letters.index(letter)] for layout, letters in operands if letter in letters]
        wide = [axis for axis in axes if axis.size != 1] or axes[:1]
        found[letter] = op.axis(op.align(*wide).labels, any(axis.zero for axis in wide), wide[0].open)
        if letter not in out:
            op.contract(*wide)
        elif len(axes) == len(operands) > 1 and not weights:
            op.labels.heads.append(found[letter].labels)
    return tuple(found[letter] for letter in out)


@rule("MatMul")
@rule("FusedMatMul", domain=MS)
def matmul(op: Op) -> Sequence[Layout | None]:
    """a[..., m, k] b[..., k, n]; vectors have no m or n; leading axes broadcast."""
    a, b = op.input(0), op.input(1)
    if op.number("transBatchA", 0) or op.number("transBatchB", 0):
        raise Refuse("turns a stack of matrices")
    a, b = (
        (*x[:-2], x[-1], x[-2]) if op.number(name, 0) and len(x) > 1 else x
        for x, name in ((a, "transA"), (b, "transB"))
    )
    return (matrices(op, a, b),)


def matrices(op: Op, a: Layout, b: Layout) -> Layout:
    """The layout of a matrix product of stacks."""
    stack = string.ascii_uppercase[: max(len(a), len(b)) - 2] if max(len(a), len(b)) > 2 else ""
    left = (stack[len(stack) - len(a) + 2 :] + "mk") if len(a) > 1 else "k"
    right = (stack[len(stack) - len(b) + 2 :] + "kn") if len(b) > 1 else "k"
    out = stack + ("m" if len(a) > 1 else "") + ("n" if len(b) > 1 else "")
    return product(op, [(a, left), (b, right)], out)


@rule("Gemm")
@rule("FusedGemm", domain=MS)
def gemm(op: Op) -> Sequence[Layout | None]:
    """a[m, k] b[k, n] + c, each possibly transposed."""
    return (activated(op, affine(op, 0, 1, 2)),)


def affine(op: Op, a: int, b: int, c: int) -> Layout:
    """Gemm of inputs with these numbers."""
    left, right = "km" if op.number("transA", 0) else "mk", "nk" if op.number("transB", 0) else "kn"
    out = product(op, [(op.input(a), left), (op.input(b), right)], "mn")
    return broadcast(op, [out, op.input(c)], all) if op.has(c) else out


def activated(op: Op, y: Layout) -> Layout:
    """What a fused activation leaves of zeros."""
    if op.node.attributes.get_string("activation", "Relu") in ("Relu", "LeakyRelu", "Tanh"):
        return y
    return tuple(op.axis(axis.labels, False, axis.open) for axis in y)


@rule("Einsum")
def einsum(op: Op) -> Sequence[Layout | None]:
    """Letters as they stand; an ellipsis is the leading axes, aligned from the right."""
    equation = op.node.attributes.get_string("equation", "").replace(" ", "")
    left, arrow, out = equation.partition("->")
    layouts = [op.input(index) for index in range(len(op.node.inputs))]
    terms = left.split(",")
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    longest = max(len(layout) - len(term.replace("...", "")) for term, layout in zip(terms, layouts, strict=True))
    stack = "".join(spare[:longest])
    if not arrow:
        once = sorted(letter for letter in set(left) - set(".,") if left.count(letter) == 1)
        out = ("..." if "..." in left else "") + "".join(once)
    terms = [_unfold(term, len(layout), stack) for term, layout in zip(terms, layouts, strict=True)]
    if any(len(set(term)) < len(term) for term in terms):
        raise Refuse("takes a diagonal")
    return (product(op, list(zip(layouts, terms, strict=True)), out.replace("...", stack)),)


def _unfold(term: str, rank: int, stack: str) -> str:
    own = rank - len(term.replace("...", ""))
    return term.replace("...", stack[len(stack) - own :])


def keep_groups(node: ir.Node, cut: Cut) -> None:
    """`group` becomes the number of groups of which anything stays."""
    groups = node.attributes.get_int("group", 1)
    kept = cut.keep(node.inputs[0], 1).reshape(groups, -1).any(1).sum()
    node.attributes["group"] = ir.AttrInt64("group", int(kept))


@rule("Conv", patch=keep_groups)
@rule("FusedConv", domain=MS, patch=keep_groups)
def conv(op: Op) -> Sequence[Layout | None]:
    """x, w, bias, and in the fused op something that is added."""
    y = convolved(op, 0, 1, 2)
    y = broadcast(op, [y, op.input(3)], all) if op.has(3) else y
    return (activated(op, y),)


def convolved(op: Op, x_index: int, w_index: int, bias: int) -> Layout:
    """Convolution of inputs with these numbers."""
    x, w = op.input(x_index), op.input(w_index)
    groups, size = op.number("group", 1), x[1].size
    if size is None or size % groups or w[0].open:
        raise Refuse("has an open number of channels")
    row, column = op.split(x[1], groups, size // groups)
    op.align(row, op.split(w[0], groups, len(w[0].labels) // groups)[0])
    op.contract(column, w[1])
    return _spatial(op, x, w, w[0], bias)


@rule("ConvTranspose", patch=keep_groups)
def conv_transpose(op: Op) -> Sequence[Layout | None]:
    """w[inputs, outputs per group, ...]."""
    x, w, groups = op.input(0), op.input(1), op.number("group", 1)
    if x[1].size is None or x[1].size % groups:
        raise Refuse("has an open number of channels")
    (row, column), (own_row, own_column) = (op.split(axis, groups, len(axis.labels) // groups) for axis in (x[1], w[0]))
    op.align(row, own_row)
    op.contract(column, own_column)
    out = op.merge([own_row, w[1]])
    return (_spatial(op, x, w, out, 2),)


def _spatial(op: Op, x: Layout, w: Layout, out: Axis, bias_index: int) -> Layout:
    """Nothing goes from height, width or kernel; the bias follows the output channels."""
    bias = op.input(bias_index) if op.has(bias_index) else None
    op.freeze("slides a window over this axis", *x[2:])
    op.freeze("", *w[2:])
    zero = out.zero
    if bias is not None and bias[0].size != 1:
        out, zero = op.align(out, bias[0]), zero and bias[0].zero
    batch = op.axis(x[0].labels, x[0].zero and bias is None, x[0].open)
    return batch, op.axis(out.labels, zero), *(fixed(size) for size in op.dims(0, len(x))[2:])
