"""An axis seen as a grid: labels for its rows and for its columns, such that every cell is their meet."""

from __future__ import annotations

import numpy as np

from optimizer.ops.axes.labels import Ints, Labels


def split(labels: Labels, axis: Ints, rows: int, columns: int) -> tuple[Ints, Ints]:
    """Labels for the rows and for the columns of an axis of rows x columns positions.

    Each slot of the cells' sets (heads, dims; a single label has one slot) is split by itself. One that depends on
    the row only, or on the column only, is kept; else it gets fresh labels for its different rows and columns.
    Where some cells lack such a slot, the sets are taken as they are instead, since a missing label is not frozen.
    """
    if 1 in (rows, columns):
        whole = (labels.find(axis), np.zeros(1, np.int64))
        return whole if columns == 1 else whole[::-1]
    slots = _slots(labels, axis)
    if any(not slot.all() and 1 not in _kinds(slot.reshape(rows, columns))[0].shape for slot in slots):
        slots = [labels.find(axis)]
    row, column = np.zeros(rows, np.int64), np.zeros(columns, np.int64)
    for slot in slots:
        grid = slot.reshape(rows, columns)
        kinds, row_kind, column_kind = _kinds(grid)
        if kinds.shape[1] == 1:
            row = labels.meet(grid[:, 0], row)
        elif kinds.shape[0] == 1:
            column = labels.meet(grid[0], column)
        else:
            r, c = labels.fresh(kinds.shape[0]), labels.fresh(kinds.shape[1])
            labels.unify(kinds.ravel(), labels.meet(*np.broadcast_arrays(r[:, None], c)).ravel())
            row, column = labels.meet(row, r[row_kind]), labels.meet(column, c[column_kind])
    return row, column


def _slots(labels: Labels, axis: Ints) -> list[Ints]:
    """Arrays of unbound labels whose meet the given array is; families that never meet share one."""
    roots = labels.find(axis)
    if not labels.bound(roots).any():
        return [roots]
    unique, place = np.unique(roots, return_inverse=True)
    slots: list[dict[int, int]] = [{}]
    slot_of: dict[int, int] = {}
    for index, root in enumerate(unique.tolist()):
        for part in sorted(labels.meaning(root)) or [root]:
            family = int(labels.family(part))
            slot = slot_of.get(family, 0)
            while slot < len(slots) and index in slots[slot]:
                slot += 1
            slot_of[family] = slot
            slots += [{}] if slot == len(slots) else []
            slots[slot][index] = part
    return [np.array([slot.get(index, 0) for index in range(len(unique))], np.int64)[place] for slot in slots]


def _kinds(grid: Ints) -> tuple[Ints, Ints, Ints]:
    """The grid of different rows and columns, and which of them each row and each column is."""
    kinds, row = _different(grid)
    columns, column = _different(kinds.T)
    return columns.T, row, column


def _different(grid: Ints) -> tuple[Ints, Ints]:
    """The different rows, in order of appearance, and which of them each row is."""
    numbers: dict[bytes, int] = {}
    which = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in np.ascontiguousarray(grid)])
    return grid[np.unique(which, return_index=True)[1]], which
