"""The algebra of labels: what unification ties together, what it freezes, and that reasons survive."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.ops.axes import Labels
from optimizer.ops.axes.grids import split

NOTHING: frozenset[int] = frozenset()


def same(labels: Labels, a: np.ndarray, b: np.ndarray) -> bool:
    return [labels.meaning(x) for x in a.tolist()] == [labels.meaning(y) for y in b.tolist()]


def test_united_labels_are_one() -> None:
    labels = Labels()
    a, b, c = labels.fresh(3), labels.fresh(3), labels.fresh(3)
    labels.unify(a, b)
    labels.unify(c[::-1], b)
    assert same(labels, a, c[::-1])
    assert len(set(labels.find(a).tolist())) == 3


def test_the_first_reason_is_kept_through_unions() -> None:
    labels = Labels()
    a, b = labels.fresh(2), labels.fresh(2)
    labels.unify(a, b)
    labels.freeze(a[:1], "Softmax 's' normalizes over this axis")
    labels.freeze(b, "something else")
    assert labels.reason(int(b[0])) == "Softmax 's' normalizes over this axis"
    assert labels.reason(int(a[1])) == "something else"


def test_what_meets_a_silent_label_is_frozen_for_the_reason_given() -> None:
    labels = Labels()
    a = labels.fresh(2)
    labels.unify(a, np.zeros(2, np.int64), "Add 'x' meets an axis that is never pruned")
    assert labels.frozen(a).all()
    assert labels.reason(int(a[0])) == "Add 'x' meets an axis that is never pruned"


def test_a_plain_label_takes_the_meaning_of_a_set() -> None:
    labels = Labels()
    heads, dims = labels.fresh(2), labels.fresh(3)
    merged = labels.meet(np.repeat(heads, 3), np.tile(dims, 2))
    bias = labels.fresh(6)
    labels.unify(bias, merged)
    assert labels.meaning(int(bias[4])) == {int(heads[1]), int(dims[1])}
    dropped = np.zeros(labels.size, bool)
    dropped[heads[0]] = True
    assert labels.sets().gone(dropped)[bias].tolist() == [True] * 3 + [False] * 3


def test_heads_are_united_with_heads_and_dims_with_dims() -> None:
    labels = Labels()
    one, other = ((labels.fresh(2), labels.fresh(3)) for _ in range(2))
    labels.unify(*(labels.meet(np.repeat(h, 3), np.tile(d, 2)) for h, d in (one, other)))
    assert same(labels, one[0], other[0]) and same(labels, one[1], other[1])
    assert len({labels.meaning(x) for x in (*one[0].tolist(), *one[1].tolist())}) == 5


def test_a_split_finds_the_factors_of_a_merge() -> None:
    labels = Labels()
    heads, dims = labels.fresh(2), labels.fresh(3)
    rows, columns = split(labels, labels.meet(np.repeat(heads, 3), np.tile(dims, 2)), 2, 3)
    assert same(labels, rows, heads) and same(labels, columns, dims)


def test_a_split_of_plain_labels_binds_each_to_its_row_and_column() -> None:
    labels = Labels()
    channels = labels.fresh(6)
    rows, columns = split(labels, channels, 3, 2)
    assert labels.meaning(int(channels[3])) == {int(rows[1]), int(columns[1])}


def test_a_split_across_the_factors_refines_them() -> None:
    labels = Labels()
    groups, places = labels.fresh(2), labels.fresh(4)
    shuffled = labels.meet(np.tile(groups, 4), np.repeat(places, 2))
    rows, columns = split(labels, shuffled, 2, 4)
    assert same(labels, shuffled, labels.meet(np.repeat(rows, 4), np.tile(columns, 2)))
    assert not labels.frozen(groups).any() and not labels.frozen(places).any()


def test_a_set_all_of_whose_labels_are_frozen_is_frozen() -> None:
    labels = Labels()
    heads, dims = labels.fresh(1), labels.fresh(1)
    merged = labels.meet(heads, dims)
    labels.freeze(heads, "first")
    assert labels.meaning(int(merged[0])) == {int(dims[0])}
    labels.freeze(dims, "second")
    assert labels.frozen(merged).all() and labels.meaning(int(merged[0])) == NOTHING


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_after_any_history_unified_positions_mean_the_same(seed: int) -> None:
    rng, labels = np.random.default_rng(seed), Labels()
    axes, equal = [labels.fresh(12) for _ in range(5)], []
    for _ in range(10):
        a, b = (axes[int(index)] for index in rng.integers(len(axes), size=2))
        step = rng.integers(4)
        if step == 0:
            rows, columns = split(labels, a, *((3, 4), (4, 3), (2, 6))[int(rng.integers(3))])
            back = labels.meet(np.repeat(rows, len(columns)), np.tile(columns, len(rows)))
            equal.append((a, back))
            axes.append(back.reshape(len(rows), -1).T.ravel() if rng.random() < 0.5 else back)
        elif step == 1:
            labels.unify(a, b)
            equal.append((a, b))
        elif step == 2:
            axes.append(rng.permutation(a))
        else:
            labels.freeze(a[: int(rng.integers(1, 3))], "frozen")
        assert all(same(labels, x, y) for x, y in equal)
    sets = labels.sets()
    for axis in axes:
        position, root = sets.members(axis)
        for place, label in enumerate(axis.tolist()):
            assert labels.meaning(label) == set(root[position == place].tolist())
