"""Element-wise ops: every result position depends on the aligned position of each operand.

What an op makes of zero decides whether its result is zero where a channel is gone. A function that is undefined at
zero (1/x, log x, division by a removed channel) freezes instead, and its constants are never masked.
"""

from __future__ import annotations

from optimizer.ops.axes.op import Op
from optimizer.ops.axes.rules import MS, rule, say

ZERO_TO_ZERO = "... -> ..., ..."
SOMETHING = "~... -> ..."

ZERO = (
    "Identity Dropout Cast Relu LeakyRelu Elu Selu Celu Gelu HardSwish Swish Mish Tanh Erf Abs Neg Sign Floor Ceil "
    "Round Sqrt Sin Sinh Tan Asin Asinh Atan Atanh Softsign ThresholdedRelu IsInf IsNaN"
)
"""Functions of one operand with f(0) = 0."""

say(ZERO, ZERO_TO_ZERO)
say("Gelu QuickGelu", ZERO_TO_ZERO, domain=MS)
say("CastLike", "..., ? -> ...")
say("Sigmoid HardSigmoid Softplus Exp Cos Cosh Acos Not BitwiseNot", SOMETHING)
say("Reciprocal Log Acosh", "/... -> ...")
say("Add Sub Or Xor BitwiseOr BitwiseXor BitShift", "+..., +... -> ...")
say("BiasGelu FastGelu", "+..., +... -> ...", domain=MS)
say("Mul And BitwiseAnd", "..., ... -> ...")
say("Div Mod", "..., /... -> ...")
say("PRelu", "..., ~... -> ...")
say("Equal Greater Less GreaterOrEqual LessOrEqual", "~..., ~... -> ...")
say("Sum Max Min Mean", lambda op: f"{', '.join(['+...'] * len(op.node.inputs))} -> ...")
say("Shrink", lambda op: ZERO_TO_ZERO if op.node.attributes.get_float("lambd", 0.5) >= 0 else SOMETHING)
say("Where", "~..., +..., +... -> ...")


@rule("Pow", raw=(0, 1))
def powers(op: Op) -> str:
    """0 ** c = 0 for c > 0; any other exponent of zero is undefined or 1."""
    exponent = op.const(1)
    return "..., ~... -> ..." if exponent is not None and (exponent > 0).all() else "/..., ~... -> ..."


@rule("Clip")
def clip(op: Op) -> str:
    """Zero stays zero if the bounds, which are constants, let it."""
    low, high = (_bound(op, index, name) for index, name in ((1, "min"), (2, "max")))
    return ZERO_TO_ZERO if low is not None and high is not None and low <= 0 <= high else SOMETHING


def _bound(op: Op, index: int, name: str) -> float | None:
    attribute = op.node.attributes.get_float(name)
    if attribute is not None or not op.has(index):
        return attribute or 0.0
    found = op.const(index)
    return None if found is None or found.size != 1 else float(found.reshape(()))
