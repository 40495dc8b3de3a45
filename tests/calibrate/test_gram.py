"""Second moments of what a weight multiplies: those of the rows that the op itself sees, whatever the order."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import pytest

from optimizer.calibrate.gram import POSITIONS, Gram, Past, Window, windows
from tests.quantize.nets import build, evaluate

Array = npt.NDArray[np.float32]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CONVOLUTIONS = {
    "3x3": ("", (4, 3, 3, 3), Window((3, 3), (1, 1), (1, 1), (0,) * 4), (2, 3, 6, 7)),
    "strided": ("strides = [2, 3]", (4, 3, 3, 2), Window((3, 2), (2, 3), (1, 1), (0,) * 4), (2, 3, 7, 8)),
    "dilated": ("dilations = [2, 1]", (4, 3, 3, 3), Window((3, 3), (1, 1), (2, 1), (0,) * 4), (2, 3, 7, 6)),
    "padded": ("pads = [1, 0, 2, 1]", (4, 3, 3, 3), Window((3, 3), (1, 1), (1, 1), (1, 0, 2, 1)), (1, 3, 5, 6)),
    "grouped": ("group = 2", (4, 3, 3, 3), Window((3, 3), (1, 1), (1, 1), (0,) * 4, 2), (2, 6, 6, 6)),
    "depthwise": ("group = 4", (4, 1, 3, 3), Window((3, 3), (1, 1), (1, 1), (0,) * 4, 4), (2, 4, 6, 6)),
    "1-D": ("strides = [2]", (4, 3, 5), Window((5,), (2,), (1,), (0, 0)), (2, 3, 11)),
    "same, odd pixel last": (
        'auto_pad = "SAME_UPPER", strides = [2, 1]',
        (4, 3, 3, 4),
        Window((3, 4), (2, 1), (1, 1), (0,) * 4, auto_pad="SAME_UPPER"),
        (2, 3, 6, 7),
    ),
    "same, odd pixel first": (
        'auto_pad = "SAME_LOWER", dilations = [2, 1]',
        (4, 3, 3, 4),
        Window((3, 4), (1, 1), (2, 1), (0,) * 4, auto_pad="SAME_LOWER"),
        (2, 3, 6, 7),
    ),
    "3-D": ("", (4, 2, 2, 2, 2), Window((2, 2, 2), (1,) * 3, (1,) * 3, (0,) * 6), (1, 2, 4, 4, 4)),
}


def convolved(name: str) -> tuple[Window, Array, Array, Array]:
    """The window of a convolution, its input, its weight as rows [G, O, K], and what the reference evaluator gives."""
    how, shape, window, dims = CONVOLUTIONS[name]
    x, w = normal(*dims), normal(*shape, seed=1)
    ports = ",".join(map(str, dims))
    net = build(f"g (float[{ports}] x) => (y) {{ y = Conv {f'<{how}>' if how else ''} (x, w) }}", {"w": w})
    rows = np.moveaxis(w, 1, -1).reshape(window.groups, shape[0] // window.groups, -1)
    return window, x, rows, evaluate(net, {"x": x})[0]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_times_rows_are_what_the_convolution_computes(name: str) -> None:
    window, x, rows, y = convolved(name)
    want = np.moveaxis(y, 1, -1).reshape(-1, y.shape[1])
    found = windows(x, window)
    assert found.shape[1] == len(want) <= POSITIONS
    got = np.concatenate(list(found @ rows.transpose(0, 2, 1)), axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_what_stands_beside_some_rows_is_what_they_give(name: str) -> None:
    window, x, rows, y = convolved(name)
    gram = Gram(window, 5)
    want = gram.rows(x, 3) @ rows.transpose(0, 2, 1)
    np.testing.assert_allclose(gram.beside(y, 3), want, rtol=1e-4, atol=1e-4)


def test_moments_of_a_product_are_those_of_all_rows() -> None:
    gram = Gram()
    batches = [normal(2, 5, 4, seed=1), normal(3, 4, seed=2)]
    for batch in batches:
        gram.update(batch)
    rows = np.concatenate([batch.reshape(-1, 4) for batch in batches]).astype(np.float64)
    assert gram.count == 13
    np.testing.assert_allclose(gram.moments(centred=False)[0], rows.T @ rows / 13, rtol=1e-5)
    np.testing.assert_allclose(gram.moments(centred=True)[0], np.cov(rows.T, bias=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gram.mean[0], rows.mean(0), rtol=1e-5, atol=1e-6)


def test_merging_in_either_order_is_the_same_as_having_seen_everything() -> None:
    batches = [normal(7, 4, seed=seed) for seed in range(4)]
    parts = []
    for own in (batches[:1], batches[1:]):
        gram = Gram()
        for batch in own:
            gram.update(batch)
        parts.append(gram)
    whole = Gram()
    for batch in batches:
        whole.update(batch)
    for one, other in (parts, parts[::-1]):
        merged = copy.deepcopy(one)
        merged.merge(other)
        np.testing.assert_allclose(merged.moments(True), whole.moments(True), rtol=1e-5)
        assert merged.count == whole.count


def test_what_was_merged_in_stays_as_it_was() -> None:
    one, other = Gram(), Gram()
    other.update(normal(7, 4))
    before = other.moments(False).copy()
    one.merge(other)
    one.merge(Gram())
    one.update(normal(7, 4, seed=1))
    np.testing.assert_array_equal(other.moments(False), before)


def test_of_a_large_batch_evenly_spread_rows_stand_for_all() -> None:
    gram = Gram()
    batch = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(-1, 1)
    gram.update(batch)
    assert gram.count == POSITIONS
    assert gram.mean[0, 0] == pytest.approx(0.5, abs=0.01)


def test_memory_depends_on_columns_only() -> None:
    gram = Gram(Window((3, 3), (1, 1), (1, 1), (1,) * 4))
    for _ in range(3):
        gram.update(normal(2, 3, 40, 40))
    assert gram.products is not None
    assert gram.products.shape == (1, 27, 27)
    assert gram.count == 3 * POSITIONS


def test_an_image_smaller_than_the_kernel_adds_nothing() -> None:
    gram = Gram(Window((5, 5), (1, 1), (1, 1), (0,) * 4))
    gram.update(normal(1, 2, 4, 4))
    assert gram.count == 0
    with pytest.raises(ValueError, match="no batch"):
        gram.moments(True)


def test_a_recurrent_weight_reads_the_states_of_the_step_before() -> None:
    states = np.arange(4 * 2 * 3 * 5, dtype=np.float32).reshape(4, 2, 3, 5)
    rows = Past().rows(states, 9)
    assert np.array_equal(rows[0], states[:3, 0].reshape(9, 5))
    assert np.array_equal(rows[1], states[1:, 1].reshape(9, 5))
    assert np.array_equal(Past(reverse=True).rows(states[:, :1], 9)[0], states[1:, 0].reshape(9, 5))


def test_few_rows_of_each_batch_come_from_everywhere_in_turn() -> None:
    gram = Gram(most=5)
    for _ in range(64):
        gram.update(np.eye(40, dtype=np.float32)[None])
    assert np.all(np.diag(gram.moments(centred=False)[0]) > 0)


def test_what_was_merged_is_left_as_it_was() -> None:
    one, other = Gram(), Gram()
    other.update(np.ones((1, 4, 3), np.float32))
    one.merge(other)
    one.update(np.full((1, 600, 3), 2, np.float32))
    assert np.all(one.moments(centred=False) > 1) and np.all(other.moments(centred=False) == 1)
