"""Augmentation that is chosen by asking the teacher."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.data.samples import Samples, in_memory  # noqa: E402
from optimizer.data.warp import bilinear  # noqa: E402
from optimizer.train.losses import Output  # noqa: E402
from optimizer.train.suited import reader, suited  # noqa: E402
from optimizer.train.teacher import Teacher  # noqa: E402
from tests.builders import model  # noqa: E402

SCORES = (Output("y", "y", "logits", "logits", 1.0),)
SIDES = """g (float[1,1,8,8] x) => (float[1,2] y) <int64[1] zero = {0}, int64[1] four = {4}, int64[1] eight = {8},
    int64[1] axis = {3}> {
    a = Slice(x, zero, four, axis) b = Slice(x, four, eight, axis)
    l = ReduceMean <axes = [1, 2, 3], keepdims = 0> (a) r = ReduceMean <axes = [1, 2, 3], keepdims = 0> (b)
    m = Unsqueeze(l, one) n = Unsqueeze(r, one) y = Concat <axis = 1> (m, n) }"""
WHOLE = """g (float[1,1,8,8] x) => (float[1,2] y) {
    m = ReduceMean <axes = [2, 3], keepdims = 0> (x) n = Neg(m) y = Concat <axis = 1> (m, n) }"""


def teacher(text: str) -> Teacher:
    return Teacher(model(text.replace("int64[1] axis = {3}", "int64[1] axis = {3}, int64[1] one = {1}"), opset=17))


def images(count: int = 40) -> Samples:
    """Light on one side, the other, or all over."""
    random = np.random.default_rng(0)
    rows = random.normal(0, 0.1, (count, 1, 1, 8, 8)).astype(np.float32) + 1
    for position, row in enumerate(rows):
        row[..., slice(0, 4) if position % 2 else slice(4, 8)] += 3
    return in_memory([{"x": row} for row in rows])


def test_a_teacher_that_tells_left_from_right_forbids_mirroring() -> None:
    found = suited("auto", images(), teacher(SIDES), SCORES, 0)
    assert "flip" not in found
    assert "scale" in found


def test_a_teacher_that_does_not_care_allows_it() -> None:
    assert suited("auto", images(), teacher(WHOLE), SCORES, 0).startswith("flip,")


def test_what_is_asked_for_is_not_tried() -> None:
    assert suited("rotate=90", images(), teacher(SIDES), SCORES, 0) == "rotate=90"
    assert suited("auto", images(), teacher(SIDES), (Output("y", "y", "mse", "logits", 1.0),), 0) == "auto"


@pytest.mark.parametrize("size", [(3, 9, 14), (1, 1, 6), (2, 5, 1)])
def test_images_are_interpolated_in_torch_as_in_numpy(size: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    image = random.normal(0, 1, size).astype(np.float32)
    x, y = random.uniform(-2, size[2] + 1, size[1:]), random.uniform(-2, size[1] + 1, size[1:])
    assert np.allclose(reader(torch)(image, x, y), bilinear(image, x, y), atol=1e-4)
