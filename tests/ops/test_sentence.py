"""The language of axis rules: what a sentence ties together, freezes and claims of zeros."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.ops.axes import Axis, Cut, Labels, Layout, Op, Refuse
from optimizer.ops.axes.reading import read
from optimizer.ops.axes.sentence import Says


def told(
    text: str, *shapes: tuple[int, ...], zero: str = "", **more: object
) -> tuple[Labels, list[Layout], list[Layout]]:
    """Labels, layouts of the inputs and of the results, for inputs of these shapes; `zero` names those that are."""
    labels, values = Labels(), [ir.Value(name=f"x{n}", shape=ir.Shape(shape)) for n, shape in enumerate(shapes)]
    node = ir.Node("", "Op", values, num_outputs=1)
    given = [tuple(Axis(labels.fresh(size), str(n) in zero) for size in shape) for n, shape in enumerate(shapes)]
    op = Op(node, labels, dict(zip(values, given, strict=True)), 17, False)
    return labels, given, read(op, Says(text, **more))  # type: ignore[arg-type]


def same(labels: Labels, *axes: Axis) -> bool:
    return len({tuple(map(labels.meaning, axis.labels.tolist())) for axis in axes}) == 1


def test_axes_of_one_letter_mean_the_same() -> None:
    labels, (x, w), (y,) = told("nk, km -> nm", (2, 3), (3, 4), zero="1")
    assert same(labels, x[1], w[0]) and same(labels, y[0], x[0]) and same(labels, y[1], w[1])


def test_a_letter_without_result_is_summed_over_and_needs_a_zero() -> None:
    assert not told("nk, km -> nm", (2, 3), (3, 4), zero="1")[0].frozen([3]).any()
    labels, (x, _), _ = told("nk, km -> nm", (2, 3), (3, 4))
    assert labels.frozen(x[1].labels).all() and not labels.frozen(x[0].labels).any()


@pytest.mark.parametrize(
    ("text", "zero", "claim"),
    [("a, a -> a", "0", True), ("+a, +a -> a", "0", False), ("+a, +a -> a", "01", True), ("a, ~a -> a", "1", False),
     ("|a, |a -> a", "0", False), ("a, +a -> a", "01", True), ("a, +a -> ~a", "01", False), ("~a, ~a -> 0a", "", True)],
)  # fmt: skip
def test_what_a_result_knows_of_zeros_is_told_by_marks(text: str, zero: str, claim: bool) -> None:
    assert told(text, (4,), (4,), zero=zero)[2][0][0].zero == claim


def test_a_product_is_a_grid_and_a_sum_a_row_of_pieces() -> None:
    labels, (x, g), (y,) = told("(gi), g -> i", (6,), (2,), zero="0")
    meaning = [labels.meaning(label) for label in x[0].labels.tolist()]
    assert meaning == [{int(a), int(b)} for a in g[0].labels for b in y[0].labels]
    labels, (x,), (y,) = told("(a+b) -> b", (5,), sizes={"a": 2}, whole="")
    assert y[0].labels.tolist() == x[0].labels[2:].tolist()


def test_an_axis_of_size_1_takes_no_part() -> None:
    labels, (x, _), (y,) = told("+..., +... -> ...", (2, 3), (1,))
    assert same(labels, y[1], x[1]) and not labels.frozen(x[1].labels).any()


def test_capital_letters_stay_whole_for_the_reason_that_is_given() -> None:
    labels, (x,), _ = told("aB -> aB", (2, 3), whole="likes it whole")
    assert labels.reason(int(x[1].labels[0])).endswith("likes it whole")
    assert not labels.frozen(x[0].labels).any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(Refuse, match="input of 3 axes"):
        told("ab -> ab", (2, 3, 4))
    with pytest.raises(Refuse, match="divides an axis of 7"):
        told("(gi), g -> i", (7,), (2,))


def test_numbers_of_positions_are_read_from_the_node_and_written_after_removal() -> None:
    labels, x = Labels(), ir.Value(name="x", shape=ir.Shape((6,)))
    node = ir.Node("", "Op", [x], [ir.AttrInt64("heads", 3)], num_outputs=1, name="n")
    layout = (Axis(labels.fresh(6)),)
    op = Op(node, labels, {x: layout}, 17, False)
    ((y,),) = read(op, Says("(hd) -> h", counts={"heads": "h"}, sums="d"))
    assert len(y.labels) == 3
    dropped = np.zeros(labels.size, np.bool_)
    dropped[labels.find(y.labels[1:2])] = True
    for edit in op.edits:
        edit(node, Cut(ir.Graph([], [], nodes=[node]), {x: layout}, labels.sets().gone(dropped)))
    assert node.attributes["heads"].as_int() == 2
