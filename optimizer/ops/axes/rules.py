"""The table of rules: one row per op.

The claim that a rule makes: in the masked model, values at kept output positions depend on kept input positions only,
and are what the op with the same positions removed computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from optimizer.ops.axes.layout import Layout
from optimizer.ops.axes.op import Op, Refuse
from optimizer.ops.axes.reading import read
from optimizer.ops.axes.sentence import Says, parse

MS = "com.microsoft"
Rule: TypeAlias = "Callable[[Op], Says | str | Sequence[Layout | None]]"


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known about an op: what it says of its axes, and how its constants are masked."""

    rule: Rule
    raw: tuple[int, ...]
    """Inputs that masking leaves as they are, since the op is undefined at zero."""
    quantized: Mapping[int, int | None]
    """Integer inputs that stand for numbers, and the input with their zero point (None: it is 0)."""

    def layouts(self, op: Op) -> Sequence[Layout | None]:
        """What the rule makes of one node. Raises `Refuse`."""
        if op.number("broadcast", 0):
            raise Refuse("broadcasts by the rules of opset 6")
        said = self.rule(op)
        return read(op, Says(said) if isinstance(said, str) else said) if isinstance(said, str | Says) else said


RULES: dict[tuple[str, str], Row] = {}


def rule(
    *ops: str, domain: str = "", raw: tuple[int, ...] = (), quantized: Mapping[int, int | None] | None = None
) -> Callable[[Rule], Rule]:
    """Register a function as the rule of some ops."""

    def register(function: Rule) -> Rule:
        for op in ops:
            if (domain, op) in RULES:
                raise ValueError(f"two rules for {domain}:{op}")
            RULES[domain, op] = Row(function, raw, quantized or {})
        return function

    return register


def say(
    ops: str, says: Rule | Says | str, *, domain: str = "", quantized: Mapping[int, int | None] | None = None
) -> None:
    """Register one sentence, or a function that gives it, for some ops. What must not be zero is not masked."""
    if callable(says):
        rule(*ops.split(), domain=domain, quantized=quantized)(says)
    else:
        operands, _ = parse(says if isinstance(says, str) else says.text)
        raw = tuple(index for index, operand in enumerate(operands) if operand.mark == "/")
        rule(*ops.split(), domain=domain, raw=raw, quantized=quantized)(lambda _: says)
