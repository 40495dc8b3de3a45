"""Yes/no variables over tensor positions: union-find with bindings, and the first reason why a label is frozen.

A *label* says "this position is kept". Label 0 is always kept. A label is either free, frozen (kept, with a reason), or
*bound* to a conjunction of other labels: it is kept exactly if all of them are. So one label per position is enough
everywhere, and arrays of labels are plain integers; sets are built only where bound labels meet.

`unify(a, b)` makes two arrays of positions mean the same, position by position:
1. the same already: nothing to do
2. both free: one class (union by smaller number); one frozen: the other too, for the same reason
3. one side one free label that does not occur in the other side's set: it takes that meaning (a binding)
4. both bound: labels that occur at the same positions of the axis are united (heads with heads, dims with dims);
   where sets still differ, labels of one family are, then the rarest of both sides; what has no partner is frozen
5. one side always kept: every label of the other side is frozen
Each step only ever makes more positions equal, so every equality established before still holds afterwards.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Set: TypeAlias = frozenset[int]

_FREE, _SILENT = 0, 1
"""Indices of reasons: none, and frozen without anything worth telling (sizes of 1, open sizes)."""


class Labels:
    """The store of all labels of one model."""

    def __init__(self) -> None:
        self.size = 1
        self._parent = np.zeros(64, np.int64)
        self._why = np.full(64, _SILENT, np.int64)
        self._family = np.zeros(64, np.int64)
        self._bound = np.zeros(64, np.bool_)
        self._used = np.zeros(64, np.bool_)
        self.heads: list[Ints] = []
        """Labels that rules call heads."""
        self._parts: dict[int, Set] = {}
        self._meets: dict[Set, int] = {}
        self._reasons = ["", ""]
        self._reason_index = {"": _SILENT}

    def fresh(self, count: int) -> Ints:
        """`count` new free labels of one family (labels that were born together)."""
        new = np.arange(self.size, self.size + count)
        self.size += count
        for name in ("_parent", "_why", "_family", "_bound", "_used") if self.size > len(self._parent) else ():
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(max(len(old), count), old.dtype)]))
        self._parent[new], self._why[new], self._family[new], self._bound[new] = new, _FREE, new[:1].sum(), False
        return new

    def find(self, labels: npt.ArrayLike) -> Ints:
        """The representative of each label's class."""
        start = np.asarray(labels, np.int64)
        roots = self._parent[start]
        while not np.array_equal(up := self._parent[roots], roots):
            roots = up
        self._parent[start] = roots
        return roots

    def canonical(self, labels: npt.ArrayLike) -> Ints:
        """The representatives, with 0 for all that are frozen."""
        roots = self.find(labels)
        return np.where(self._why[roots] == _FREE, roots, 0)

    def frozen(self, labels: npt.ArrayLike) -> Bools:
        """Which labels can never be dropped."""
        roots = self.canonical(labels)
        for root in np.unique(roots[self._bound[roots]]).tolist():
            if not self.meaning(root):
                self._why[root] = self._why_of(root)
        frozen: Bools = self._why[roots] != _FREE
        return frozen

    def reason(self, label: int) -> str:
        """Why a label is frozen; empty where there is nothing to tell."""
        return self._reasons[self._why_of(label)]

    def bound(self, labels: npt.ArrayLike) -> Bools:
        """Which labels stand for several others."""
        return np.asarray(self._bound[self.find(labels)])

    def family(self, labels: npt.ArrayLike) -> Ints:
        """The family of each label's representative."""
        return self._family[self.find(labels)]

    def meaning(self, label: int) -> Set:
        """The free, unbound representatives whose conjunction a label is; empty for one that is frozen."""
        root = self._root(label)
        if self._why[root] != _FREE:
            return frozenset()
        if not self._bound[root]:
            return frozenset((root,))
        self._parts[root] = frozenset().union(*map(self.meaning, self._parts[root]))
        return self._parts[root]

    def freeze(self, labels: npt.ArrayLike, why: str = "") -> None:
        """Never drop these; the first reason given for a class is kept."""
        index = self._reason_index.setdefault(why, len(self._reasons))
        if index == len(self._reasons):
            self._reasons.append(why)
        self._freeze(np.unique(self.find(labels)), index)

    def unify(self, a: Ints, b: Ints, why: str = "") -> None:
        """Let two arrays of equal length mean the same; `why` explains what gets frozen by a silent label."""
        a, b = self.find(a), self.find(b)
        open_ = (a != b) & ((self._why[a] == _FREE) | (self._why[b] == _FREE))
        a, b = a[open_], b[open_]
        stuck = (self._why[a] == _SILENT) | (self._why[b] == _SILENT)
        self.freeze(np.concatenate([a[stuck], b[stuck]]), why)
        a, b = a[~stuck], b[~stuck]
        sets = self._bound[a] | self._bound[b]
        self._link(a[~sets], b[~sets])
        if sets.any():
            self._adopt(a[sets], b[sets])
            self._unify_sets(list(zip(a[sets].tolist(), b[sets].tolist(), strict=True)))

    def meet(self, a: Ints, b: Ints) -> Ints:
        """The conjunction, element by element, of two arrays of one shape."""
        roots, a, b = self.find(a), self.canonical(a), self.canonical(b)
        out = np.where(a == 0, np.where(b == 0, roots, b), a)
        both = (a != 0) & (b != 0) & (a != b)
        if both.any():
            keys, back = np.unique(a[both] * self.size + b[both], return_inverse=True)
            pairs = (divmod(key, self.size) for key in keys.tolist())
            out[both] = self._conjunctions([self.meaning(x) | self.meaning(y) for x, y in pairs])[back]
        return out

    def _root(self, label: int) -> int:
        while (up := int(self._parent[label])) != label:
            label = up
        return label

    def _why_of(self, label: int) -> int:
        root = self._root(label)
        if self._why[root] != _FREE or not self._bound[root]:
            return int(self._why[root])
        return max((self._why_of(part) for part in self._parts[root]), default=_SILENT)

    def _freeze(self, roots: Ints, why: int) -> None:
        while (roots := roots[self._why[roots] == _FREE]).size:
            self._why[roots] = why
            parts = frozenset[int]().union(*(self._parts[root] for root in roots[self._bound[roots]].tolist()))
            roots = np.unique(self.find(sorted(parts)))

    def _link(self, a: Ints, b: Ints) -> None:
        """Union of unbound classes: the larger root hangs below the smaller one until all pairs agree."""
        while a.size:
            low, high = np.minimum(a, b), np.maximum(a, b)
            np.maximum.at(self._why, low, np.where(self._why[low] == _FREE, self._why[high], 0))
            np.logical_or.at(self._used, low, self._used[high])
            self._parent[high] = low
            a, b = self.find(a), self.find(b)
            a, b = a[a != b], b[a != b]

    def _join(self, a: int, b: int) -> None:
        """Union of two classes of which at most one is bound, or whose sets are equal."""
        low, high = sorted((self._root(a), self._root(b)))
        if low == high:
            return
        if self._bound[high]:
            self._bound[low] = True
            self._parts[low] = self._parts.pop(high)
        self._link(np.array([low]), np.array([high]))

    def _adopt(self, a: Ints, b: Ints) -> None:
        """Case 3 for many: labels in no set at all take the meaning of the bound label they meet first."""
        own, other = np.where(self._bound[a], b, a), np.where(self._bound[a], a, b)
        lone = ~self._bound[own] & ~self._used[own] & (self._why[own] == _FREE) & (self._why[other] == _FREE)
        own, first = np.unique(own[lone], return_index=True)
        self._parent[own] = other[lone][first]

    def _unify_sets(self, pairs: list[tuple[int, int]]) -> None:
        left = [pair for pair in pairs if self._root(pair[0]) != self._root(pair[1]) and not self._settle(*pair)]
        places = self._match(left)
        for a, b in left:
            self._couple(a, b, places)

    def _settle(self, a: int, b: int) -> bool:
        """Cases 1 and 3."""
        one, other = self.meaning(a), self.meaning(b)
        if one == other:
            if len(one) > 1:
                self._join(a, b)
            return True
        for single, rest, label in ((one, other, b), (other, one, a)):
            if len(single) == 1 and rest and not single <= rest:
                self._join(next(iter(single)), label)
                return True
        return False

    def _match(self, pairs: list[tuple[int, int]]) -> dict[int, int]:
        """Case 4: unite labels that occur at the same places of the two sides; the number of places of each."""
        here: dict[int, list[int]] = defaultdict(list)
        there: dict[int, list[int]] = defaultdict(list)
        for place, (a, b) in enumerate(pairs):
            one, other = self.meaning(a), self.meaning(b)
            for label in one - other:
                here[label].append(place)
            for label in other - one:
                there[label].append(place)
        by_places = {tuple(places): label for label, places in there.items()}
        for label, places in here.items():
            if (twin := by_places.pop(tuple(places), None)) is not None:
                self._join(label, twin)
        return {label: len(places) for label, places in (here | there).items()}

    def _couple(self, a: int, b: int, places: dict[int, int]) -> None:
        """Case 5: labels of one family first, then the finest with the finest; what is left over is frozen."""
        one, other = self.meaning(a), self.meaning(b)
        mine, yours = (sorted(s, key=lambda label: (places.get(label, 0), label)) for s in (one - other, other - one))
        for label in list(mine):
            twin = next((twin for twin in yours if self._family[twin] == self._family[label]), None)
            if twin is not None:
                self._join(label, twin)
                mine.remove(label)
                yours.remove(twin)
        for label, twin in zip(mine, yours, strict=False):
            self._join(label, twin)
        if rest := mine[len(yours) :] + yours[len(mine) :]:
            self.freeze(rest, self.reason(b if one else a) if not (one and other) else "lies in two groupings at odds")

    def _conjunctions(self, sets: list[Set]) -> Ints:
        """A label for each set, bound to it if it has several parts."""
        missing = [parts for parts in dict.fromkeys(sets) if len(parts) > 1 and parts not in self._meets]
        new = self.fresh(len(missing))
        self._bound[new] = True
        for label, parts in zip(new.tolist(), missing, strict=True):
            self._parts[label], self._meets[parts], self._used[list(parts)] = parts, label, True
        return np.array([self._meets[parts] if len(parts) > 1 else next(iter(parts), 0) for parts in sets], np.int64)

    def sets(self) -> Sets:
        """What every label means, as arrays. Valid until the next change."""
        roots = self.canonical(np.arange(self.size))
        owners: list[int] = []
        parts: list[int] = []
        for root in np.unique(roots[self._bound[roots]]).tolist():
            meaning = sorted(self.meaning(root))
            owners += [root] * len(meaning)
            parts += meaning
        return Sets(roots, self._bound[: self.size].copy(), np.array(owners, np.int64), np.array(parts, np.int64))


@dataclasses.dataclass(frozen=True)
class Sets:
    """A snapshot: `root[label]` (0 = frozen), and the pairs (owner, part) of all bound roots."""

    root: Ints
    bound: Bools
    owner: Ints
    part: Ints

    def gone(self, dropped: npt.NDArray[Any]) -> Bools:
        """Per label, whether its positions go when the free roots marked in `dropped` (per label) are dropped."""
        marks = np.asarray(dropped, np.bool_).copy()
        marks[0] = False
        marks[self.bound] = False
        marks[self.owner[marks[self.part]]] = True
        gone: Bools = marks[self.root]
        return gone

    def members(self, labels: Ints) -> tuple[Ints, Ints]:
        """All (position, free root) pairs of an axis, frozen ones left out."""
        roots = self.root[labels]
        single = np.flatnonzero((roots != 0) & ~self.bound[roots])
        if len(single) == np.count_nonzero(roots):
            return single, roots[single]
        order = np.argsort(self.owner, kind="stable")
        owner, part = self.owner[order], self.part[order]
        places = np.flatnonzero(self.bound[roots])
        first, last = (np.searchsorted(owner, roots[places], side) for side in ("left", "right"))
        repeat = last - first
        offsets = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        many = part[np.repeat(first, repeat) + offsets]
        return np.concatenate([single, np.repeat(places, repeat)]), np.concatenate([roots[single], many])
