"""Element-wise ops: every result position depends on the aligned position of each operand.

An operand's axis of size 1 broadcasts and takes no part. What an op makes of zero decides whether its result is zero
where a channel is gone: f(0) = 0 for one operand; a sum needs both to be zero, a product one. A function that is
undefined at zero (1/x, log x, division by a removed channel) freezes instead, and its constants are never masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optimizer.ops.axes.rule import MS, Axis, Layout, Op, Refuse, fixed, rule

Zero = Callable[[Sequence[bool]], bool]


def broadcast(op: Op, operands: Sequence[Layout], zero: Zero) -> Layout:
    """The layout of an element-wise result; `zero` combines what is known of each operand, axis by axis."""
    rank = max(len(layout) for layout in operands)
    columns = ([layout[i - rank] if i >= rank - len(layout) else None for layout in operands] for i in range(rank))
    return tuple(_column(op, column, zero) for column in columns)


def _column(op: Op, column: Sequence[Axis | None], zero: Zero) -> Axis:
    wide = [axis for axis in column if axis is not None and axis.size != 1]
    if not wide:
        return next((axis for axis in column if axis is not None), fixed(1))
    aligned = op.align(*wide)
    zeros = [axis is not None and axis.size != 1 and axis.zero for axis in column]
    return op.axis(aligned.labels, zero(zeros), aligned.open)


def _all(zeros: Sequence[bool]) -> bool:
    return all(zeros)


def _first(zeros: Sequence[bool]) -> bool:
    return zeros[0]


def _never(zeros: Sequence[bool]) -> bool:
    return False


def _operands(op: Op, count: int | None = None) -> list[Layout]:
    if op.node.attributes.get_int("broadcast", 0):
        raise Refuse("broadcasts by the rules of opset 6")
    return [op.input(index) for index in range(len(op.node.inputs) if count is None else count)]


def mapped(op: Op, zero: bool) -> Layout:
    """A function of one operand; `zero`: f(0) = 0."""
    return tuple(op.axis(axis.labels, zero and axis.zero, axis.open) for axis in op.input(0))


@rule("Identity", "Dropout", "Cast", "CastLike", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "HardSwish",
      "Swish", "Mish", "Tanh", "Erf", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Sin", "Sinh", "Tan",
      "Asin", "Asinh", "Atan", "Atanh", "Softsign", "ThresholdedRelu", "IsInf", "IsNaN")  # fmt: skip
@rule("Gelu", "FastGelu", "QuickGelu", domain=MS)
def zero_to_zero(op: Op) -> Sequence[Layout | None]:
    """f(0) = 0. A second output (the mask of Dropout) aligns with the first; FastGelu has a bias."""
    if op.node.op_type == "FastGelu" and op.has(1):
        return (broadcast(op, _operands(op), _all),)
    out = mapped(op, zero=True)
    return out, out


@rule("Sigmoid", "HardSigmoid", "Softplus", "Exp", "Cos", "Cosh", "Acos", "Not", "BitwiseNot")
def zero_to_something(op: Op) -> Sequence[Layout | None]:
    """f(0) is another number."""
    return (mapped(op, zero=False),)


@rule("Reciprocal", "Log", "Acosh", raw=(0,))
def undefined_at_zero(op: Op) -> Sequence[Layout | None]:
    """f(0) is no number: where a removed channel would be zero, it stays."""
    _no_zero(op, op.input(0))
    return (mapped(op, zero=False),)


@rule("Clip")
def clip(op: Op) -> Sequence[Layout | None]:
    """Zero stays zero if the bounds, which are constants, let it."""
    low, high = (_bound(op, index, name) for index, name in ((1, "min"), (2, "max")))
    return (mapped(op, zero=low is not None and high is not None and low <= 0 <= high),)


def _bound(op: Op, index: int, name: str) -> float | None:
    attribute = op.node.attributes.get_float(name)
    if attribute is not None:
        return attribute
    if not op.has(index):
        return 0.0
    found = op.const(index)
    return None if found is None or found.size != 1 else float(found.reshape(()))


@rule("Shrink")
def shrink(op: Op) -> Sequence[Layout | None]:
    """0 stays 0 for a threshold that is not negative."""
    return (mapped(op, zero=op.node.attributes.get_float("lambd", 0.5) >= 0),)


@rule("Add", "Sub", "Sum", "Max", "Min", "Mean", "Or", "Xor", "BitwiseOr", "BitwiseXor", "BitShift")
@rule("BiasGelu", domain=MS)
def sums(op: Op) -> Sequence[Layout | None]:
    """Zero where all operands are."""
    return (broadcast(op, _operands(op), _all),)


@rule("Mul", "And", "BitwiseAnd")
def products(op: Op) -> Sequence[Layout | None]:
    """Zero where one factor is."""
    return (broadcast(op, _operands(op), any),)


@rule("Div", raw=(1,))
@rule("Mod", raw=(1,))
def quotients(op: Op) -> Sequence[Layout | None]:
    """Zero where the dividend is; the divisor must not be."""
    _no_zero(op, op.input(1))
    return (broadcast(op, _operands(op), _first),)


@rule("Pow", raw=(0, 1))
def powers(op: Op) -> Sequence[Layout | None]:
    """0 ** c = 0 for c > 0; any other exponent of zero is undefined or 1."""
    exponent = op.const(1)
    if exponent is None or not (exponent > 0).all():
        _no_zero(op, op.input(0))
        return (broadcast(op, _operands(op), _never),)
    return (broadcast(op, _operands(op), _first),)


@rule("PRelu")
def prelu(op: Op) -> Sequence[Layout | None]:
    """Zero where x is."""
    return (broadcast(op, _operands(op), _first),)


@rule("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def comparisons(op: Op) -> Sequence[Layout | None]:
    """A truth value, which zero says nothing about."""
    return (broadcast(op, _operands(op), _never),)


@rule("Where")
def where(op: Op) -> Sequence[Layout | None]:
    """Zero where both choices are."""
    return (broadcast(op, _operands(op), lambda zeros: zeros[1] and zeros[2]),)


def _no_zero(op: Op, layout: Layout) -> None:
    op.freeze("is undefined at zero, which a removed channel would be", *(axis for axis in layout if axis.zero))
