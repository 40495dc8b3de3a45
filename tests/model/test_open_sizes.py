"""Sizes that inference leaves open, told by other sizes."""

from __future__ import annotations

import pytest

from optimizer.model import open_sizes, shapes
from tests import builders

TIME = "s = Shape (x)  one = Constant <value_int = 1> ()  zero = Constant <value_int = 0> ()  t = Gather (s, one)  "
RANGE = TIME + "r = Range (zero, t, one)  "


@pytest.mark.parametrize(
    ("nodes", "sizes"),
    [
        ("c = Constant <value_ints = [0, -1, 4, 16]> ()  y = Reshape (x, c)", ["batch", "time", 4, 16]),
        ("c = Constant <value_ints = [-1, 128]> ()  y = Reshape (x, c)", [None, 128]),
        ("c = Constant <value_ints = [0, 0, 4, -1]> ()  y = Reshape (x, c)", ["batch", "time", 4, 16]),
        ("c = Constant <value_ints = [0, -1, 32]> ()  y = Reshape (x, c)", ["batch", None, 32]),
        (RANGE + "y = Neg (r)", ["time"]),
        (TIME + "r = Range (one, t, one)  y = Neg (r)", [None]),
        (RANGE + "f = Cast <to = 1> (r)  g = Unsqueeze (f, w)  y = Add (x, g)", ["batch", "time", 64]),
    ],
    ids=[
        "a name is inferred", "part of a size is none", "a number is inferred", "twice a name is no size",
        "up to a size", "from 1 up to a size is another", "broadcast of equals",
    ],
)  # fmt: skip
def test_an_open_size_is_told_by_others(nodes: str, sizes: list[object]) -> None:
    text = f"g (float[batch,time,64] x) => (z) <int64[1] w = {{1}}> {{ {nodes}  z = Identity (y) }}"
    model = builders.model(text)
    shapes.infer(model)
    open_sizes.settle(model.graph)
    found = next(value for node in model.graph for value in node.outputs if value.name == "y")
    named = [size if isinstance(size, int) else size.value for size in found.shape]
    assert [None if str(size).startswith("unk") else size for size in named] == sizes
