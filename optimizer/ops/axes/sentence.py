"""Rules as sentences: what an op does to axes, in the manner of an einsum.

    Conv    n(gi)*, (go)i_, +(go) -> n(go)*          MatMul  ...mk, ...kn -> ...mn          Add  +..., +... -> ...

Operands stand in the order of the node's inputs. Axes that have one letter mean the same, position by position; an axis
of size 1 broadcasts and takes no part. Nothing but labels is tied, so a letter says little of an op, yet enough.

    a, b7     an axis; a letter that no result has is summed over: what goes must be zero in a factor
    A, B7     an axis that stays whole, for the reason that goes with the sentence; new in a result: never pruned
    (gi)      row-major product of axes           (b+c)   one after the other          1    an axis of size 1
    ...       any number of axes, aligned from the right
    < >       the axes before, and those after the one that the attribute `axis` names
    *         any number of axes that stay whole; in a result as many, of the sizes that were inferred
    _         any number of axes that stay whole, for no reason worth telling (so are inputs that a sentence leaves out)
    ?         any number of axes that do not matter

An operand with fewer axes than letters has the last ones. A lower-case letter that is new in a result is an axis of
equal copies. A result that the node does not have is what is thrown away without being summed. What the results know of
zeros at positions that go is told by marks:

    x     a factor                       +x    is added to the product of the factors
    |x    one of several pieces or choices that the result is made of
    ~x    neither; of a result: nothing is known           0x    of a result: it is zero all over
    /x    neither, and must not be zero (masking leaves constants alone there)
    !     must not be there

So f(0) = 0 is `... -> ...` and any other function `~... -> ...`; a product is zero where one factor is, a sum where all
its parts are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

from optimizer.ops.axes.layout import Array

_AXIS = re.compile(r"\.\.\.|[<>*_?1]|[A-Za-z]\d*|\([^)]*\)")
_LETTER = re.compile(r"[.<>]\d+|[A-Za-z]\d*")
Expression: TypeAlias = "tuple[tuple[str, ...], ...]"
"""A sum of products of letters."""
Place: TypeAlias = "str | tuple[str, int | None, int]"
"""An attribute; or a list attribute, the input that it is in newer opsets, and an entry."""


@dataclasses.dataclass(frozen=True)
class Says:
    """A sentence and what goes with it."""

    text: str
    whole: str = ""
    """Why upper-case letters and `*` stay whole; continues the sentence "NODE ..."."""
    at: int | None = None
    """The axis between < and >, without a sign; None: the attribute `axis`, or its default -1."""
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Sizes of letters that no operand tells."""
    counts: Mapping[Place, str] = dataclasses.field(default_factory=dict)
    """Attributes that are the size of an expression: read here, written after removal."""
    means: str = ""
    """Letters that statistics are taken over."""
    sums: str = ""
    """Letters that are summed over though a result has them."""
    heads: str = ""
    """Letters that attention treats alike side by side."""
    picks: Mapping[str, tuple[str, Array]] = dataclasses.field(default_factory=dict)
    """Letters that are some positions of other ones."""
    pins: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Attributes that the op would derive from sizes, as they were before removal."""


@dataclasses.dataclass(frozen=True)
class Part:
    """An operand or a result."""

    mark: str
    axes: tuple[str, ...]


@lru_cache(4096)
def parse(text: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """The operands and the results of a sentence."""
    left, right = ([piece.strip() for piece in side.split(",")] for side in text.split("->"))
    return tuple(map(_part, left)), tuple(map(_part, right))


def _part(text: str) -> Part:
    mark = text[:1] if text[:1] in tuple("+|~/!0") else ""
    return Part(mark, tuple(_AXIS.findall(text[len(mark) :])))


@lru_cache(4096)
def expression(token: str) -> Expression:
    """`b` or `(ab+c)` as a sum of products."""
    return tuple(tuple(named(term)) for term in token.strip("()").split("+"))


def named(text: str) -> list[str]:
    """All letters of a text."""
    return _LETTER.findall(text)


def letters(rank: int, whole: Container[int] = (), name: str = "a") -> list[str]:
    """Letters for the axes of a tensor, upper-case for those that stay whole."""
    return [f"{name.upper() if axis in whole else name}{axis}" for axis in range(rank)]


def spell(names: Iterable[str]) -> str:
    """Letters as an operand or a result."""
    return " ".join(names)
