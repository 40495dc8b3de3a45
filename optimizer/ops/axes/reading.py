"""Carrying out a sentence: letters get sizes, axes fall into letters, letters are tied, results are made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from optimizer.ops.axes.cut import Count
from optimizer.ops.axes.labels import Ints
from optimizer.ops.axes.layout import Axis, Layout, fixed
from optimizer.ops.axes.op import Op, Refuse
from optimizer.ops.axes.sentence import Expression, Part, Says, expression, named, parse

_ANY = ("...", "*", "_", ">")


def read(op: Op, says: Says) -> list[Layout]:
    """Carry out a sentence. Raises `Refuse` where it does not fit the node."""
    return _Reading(op, says).results()


class _Reading:
    """One sentence on one node."""

    def __init__(self, op: Op, says: Says) -> None:
        self.op, self.says = op, says
        self.operands, self.gives = parse(says.text)
        self.many = dict.fromkeys(("...", "*", "<", ">"), 0)
        """How many axes each sign stands for."""
        given = [list(self._named(index)) for index in range(len(op.node.inputs)) if op.has(index)]
        self.known = dict(says.sizes)
        self._solve([pair for operand in given for pair in operand])
        self.uses: dict[str, dict[int, list[Axis]]] = {}
        """The axes of each letter, by operand."""
        self.spelled: dict[str, Ints] = {}
        """Labels of whole expressions."""
        for compound in (False, True):
            for number, operand in enumerate(given):
                for token, axis in operand:
                    if (token[0] == "(") is compound:
                        self._divide(number, token, axis)
        self.marks = [self._part(index).mark for index in range(len(op.node.inputs)) if op.has(index)]
        self.told = self._told()
        self.found = {letter: self._tie(letter) for letter in self.uses}
        for letter, (source, places) in says.picks.items():
            axis = self.found[source]
            self.found[letter], self.uses[letter] = op.axis(axis.labels[places], axis.zero), self.uses[source]
            op.freeze(says.whole, *[self.found[letter]] * letter.isupper())
        self._note()

    def _part(self, index: int) -> Part:
        return self.operands[index] if index < len(self.operands) else Part("~", ("_",))

    def _named(self, index: int) -> Iterator[tuple[str, Axis]]:
        """The axes of an input with their names."""
        part = self._part(index)
        if part.mark == "!":
            raise Refuse(f"has an input that is not understood (number {index})")
        if part.axes == ("_",):
            self.op.freeze("", *(self.op.layout(index) or ()))
        if part.axes in (("_",), ("?",)):
            return
        layout = self.op.input(index)
        if part.mark == "/":
            why = "is undefined at zero, which a removed channel would be"
            self.op.freeze(why, *(axis for axis in layout if axis.zero))
        spread = self._spread(part.axes, len(layout))
        if len(spread) < len(layout):
            raise Refuse(f"has an input of {len(layout)} axes (number {index})")
        for token, axis in zip(spread[len(spread) - len(layout) :], layout, strict=True):
            if token in ("*", "_"):
                self.op.freeze(self.says.whole if token == "*" else "", axis)
            elif token != "1":
                yield token, axis

    def _spread(self, tokens: tuple[str, ...], rank: int) -> list[str]:
        """Names for each of `rank` axes, where one name stands for many."""
        wild = [token for token in tokens if token in _ANY or token == "<"]
        more = max(0, rank - len(tokens) + len(wild))
        at = self.op.at() if self.says.at is None else self.says.at
        counts = {"<": min(at, more)} if "<" in wild else {}
        counts |= {token: more - sum(counts.values()) for token in wild if token != "<"}
        self.many = {token: max(self.many[token], counts.get(token, 0)) for token in self.many}
        return self._unfolded(tokens, counts)

    @staticmethod
    def _unfolded(tokens: Sequence[str], counts: Mapping[str, int]) -> list[str]:
        """Signs that stand for several axes spelled out; those that align from the right count down."""
        return [name for token in tokens for name in (_many(token, counts[token]) if token in counts else [token])]

    def _solve(self, given: Sequence[tuple[str, Axis]]) -> None:
        """Sizes of letters, from sizes of axes and from attributes; what nothing tells is 1."""
        facts = [(expression(token), axis.size) for token, axis in given if axis.size not in (None, 1)]
        for place, text in self.says.counts.items():
            if isinstance(place, str) and (number := self.op.number(place, 0)):
                facts.append((expression(text), number))
        narrow = [token for token, axis in given if axis.size == 1 and token[0] != "("]
        every = [letter for token, _ in given for letter in named(token)]
        self._deduce(facts)
        for letter in (*narrow, *every):
            if letter not in self.known:
                self.known[letter] = 1
                self._deduce(facts)

    def _deduce(self, facts: Sequence[tuple[Expression, int]]) -> None:
        for _ in facts:
            before = len(self.known)
            for terms, size in facts:
                unknown = [(term, letter) for term in terms for letter in term if letter not in self.known]
                if len(unknown) == 1:
                    (term, letter) = unknown[0]
                    rest = size - sum(math.prod(self.known[one] for one in other) for other in terms if other != term)
                    self.known[letter] = rest // math.prod(self.known[one] for one in term if one != letter)
            if len(self.known) == before:
                return

    def _size(self, term: Sequence[str]) -> int:
        return math.prod(self.known[letter] for letter in term)

    def _divide(self, number: int, token: str, axis: Axis) -> None:
        """Give an axis of operand `number` to its letters."""
        terms = expression(token)
        if len(terms) == len(terms[0]) == 1:
            self.uses.setdefault(token, {}).setdefault(number, []).append(axis)
            return
        if axis.size is None:
            raise Refuse("has an open number of channels")
        sizes = [self._size(term) for term in terms]
        if axis.size == 1 != sum(sizes):
            return
        if sum(sizes) != axis.size:
            raise Refuse(f"divides an axis of {axis.size} into {' and '.join(map(str, sizes))}")
        for term, labels in zip(terms, np.split(axis.labels, np.cumsum(sizes)[:-1]), strict=True):
            parts = self._parts(term, self.op.axis(labels, axis.zero))
            for letter, part in zip(term, parts, strict=True):
                self.uses.setdefault(letter, {}).setdefault(number, []).append(part)
        self.spelled.setdefault(token, axis.labels)

    def _parts(self, term: Sequence[str], axis: Axis) -> Sequence[Axis]:
        """What the letters of a product get of an axis; if they all mean something already, it means their product."""
        if len(term) == 1:
            return [axis]
        known = [one for letter in term if (one := self._first(letter)) is not None]
        if len(known) < len(term):
            return self.op.split(axis, [self.known[letter] for letter in term])
        self.op.align(axis, self.op.merge(known))
        return [Axis(one.labels, axis.zero) for one in known]

    def _first(self, letter: str) -> Axis | None:
        """What a letter means so far."""
        if letter in self.uses:
            return next(iter(self.uses[letter].values()))[0]
        return fixed(self.known[letter]) if letter.isupper() else None

    def _tie(self, letter: str) -> Axis:
        """One axis for all that have the letter."""
        op, says, uses = self.op, self.says, self.uses[letter]
        if wide := {n: [axis for axis in axes if axis.size != 1] for n, axes in uses.items()}:
            uses = self.uses[letter] = {n: axes for n, axes in wide.items() if axes} or uses
        aligned = op.align(*(axis for axes in uses.values() for axis in axes))
        if letter.isupper():
            op.freeze(says.whole, aligned)
        elif _in(letter, says.means):
            op.statistics(*[aligned] * (aligned.size != 1))
        elif _in(letter, says.sums) or letter not in self.told:
            self._contract(aligned, uses)
        return aligned

    def _told(self) -> set[str]:
        """Letters that are not summed over."""
        tokens = [token for part in self.gives for token in self._unfolded(part.axes, self.many)]
        plain = {letter for token in tokens for letter in named(token)}
        return plain | {source for source, _ in self.says.picks.values()}

    def _contract(self, axis: Axis, uses: Mapping[int, Sequence[Axis]]) -> None:
        """A sum over an axis of products: whatever goes must be zero in one factor."""
        zero = {number: all(one.zero for one in axes) for number, axes in uses.items()}
        added = [flag for number, flag in zero.items() if self.marks[number] == "+"]
        if not (all(added) and any(flag for number, flag in zero.items() if self.marks[number] != "+")):
            self.op.freeze("adds up values that are not zero where a channel is gone", axis)

    def _zero(self, letter: str) -> bool:
        """Whether the results are zero at positions of this letter that go."""
        flags: dict[str, list[bool | None]] = {mark: [] for mark in ("", "+", "|", "~", "/")}
        for number, mark in enumerate(self.marks):
            axes = self.uses.get(letter, {}).get(number)
            flags[mark].append(None if axes is None else all(axis.zero for axis in axes))
        claims = [any(flags[""])] if flags[""] else []
        claims += [bool(flag) for flag in flags["+"]] + [flag for flag in flags["|"] if flag is not None]
        return bool(claims) and all(claims)

    def _note(self) -> None:
        """Numbers to write after removal, and heads."""
        lists: dict[tuple[str, int | None], dict[int | None, list[list[Ints]]]] = {}
        for place, text in self.says.counts.items():
            name, index, entry = (place, None, None) if isinstance(place, str) else place
            terms = [[self._axis(letter).labels for letter in term] for term in expression(text)]
            lists.setdefault((name, index), {})[entry] = terms
        self.op.edits += [Count(name, terms, index) for (name, index), terms in lists.items()]
        if self.says.pins:
            self.op.edits.append(partial(_pin, self.says.pins))
        names = _many("...", self.many["..."]) if self.says.heads == "..." else named(self.says.heads)
        self.op.labels.heads += [self.found[name].labels for name in names if name in self.found]

    def _axis(self, letter: str) -> Axis:
        """The axis of a letter; copies where no operand has it."""
        if letter not in self.found:
            size = self.known[letter]
            fresh = size > 1 and not letter.isupper()
            self.found[letter] = self.op.axis(self.op.labels.fresh(size), False) if fresh else fixed(size)
        return self.found[letter]

    def results(self) -> list[Layout]:
        """The layouts of all results."""
        if any(self.op.used(output) for output in range(len(self.gives), len(self.op.node.outputs))):
            raise Refuse("gives out more than its rule knows")
        node = self.op.node
        return [tuple(self._result(n, part)) for n, part in enumerate(self.gives[: len(node.outputs)])]

    def _result(self, number: int, part: Part) -> Iterator[Axis]:
        tokens = self._unfolded(part.axes, self.many)
        for place, token in enumerate(tokens):
            if token in ("1", "*") or (token[0].isupper() and not {token} & (self.found.keys() | self.known.keys())):
                yield fixed(1 if token == "1" else self.op.dims(number, len(tokens))[place])
            else:
                axis, zero = self._made(token)
                yield self.op.axis(axis.labels, part.mark == "0" or (zero and part.mark != "~"), axis.open)

    def _made(self, token: str) -> tuple[Axis, bool]:
        """What an expression stands for in a result."""
        terms = expression(token)
        zero = all(self._zero(letter) for term in terms for letter in term if self._axis(letter).size != 1)
        if (labels := self.spelled.get(token)) is not None:
            return Axis(labels), zero
        axes = [self.op.merge([self._axis(letter) for letter in term]) for term in terms]
        if len(axes) == 1:
            return axes[0], zero
        return Axis(np.concatenate([axis.labels for axis in axes])), zero


def _in(letter: str, text: str) -> bool:
    return "..." in text if letter[0] == "." else letter in named(text)


def _many(wild: str, count: int) -> list[str]:
    """Names for the axes that one sign stands for; `...` is aligned from the right."""
    places = reversed(range(count)) if wild == "..." else range(count)
    return [f"{wild[0]}{place}" if wild in ("...", "<", ">") else wild for place in places]


def _pin(pins: Mapping[str, float], node: ir.Node, _: object) -> None:
    for name, number in pins.items():
        node.attributes[name] = ir.AttrFloat32(name, number)
