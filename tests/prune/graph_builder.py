"""A random graph while it is written: ONNX text, constants, and the images that steps can go on from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Recipe = Callable[["Builder"], None]
RECIPES: list[Recipe] = []
OPSET = 20
"""The opset of a graph, unless a step needs a newer one."""


def recipe(function: Recipe) -> Recipe:
    """Register a step."""
    RECIPES.append(function)
    return function


class Builder:
    """The graph so far: text, constants, and images [n, c, s, s] as (name, c, s)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.constants: dict[str, np.ndarray] = {}
        self.batch: int | None = None if self.rng.random() < 0.5 else 2
        self.count = 0
        self.opset = OPSET
        self.images: list[tuple[str, int, int]] = [("input", 4, 8)]

    def pick(self, *choices: object) -> object:
        """One of several, at random."""
        return choices[int(self.rng.integers(len(choices)))]

    def image(self) -> tuple[str, int, int]:
        """A recent image, mostly the last."""
        return self.images[-1] if self.rng.random() < 0.75 else self.images[int(self.rng.integers(len(self.images)))]

    def channels(self) -> int:
        return int(self.pick(4, 6, 8, 12))

    def op(self, text: str, *results: str) -> str:
        """A node; returns its first result."""
        names = results or (self.name(),)
        self.lines.append(f"{', '.join(names)} = {text}")
        return names[0]

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.rng.standard_normal(shape) * scale / np.sqrt(max(1, np.prod(shape[1:]))))

    def positive(self, *shape: int) -> str:
        return self.constant(self.rng.uniform(0.5, 1.5, shape))

    def constant(self, array: object, dtype: type = np.float32) -> str:
        name = self.name().replace("v", "k")
        self.constants[name] = np.asarray(array, dtype)
        return name

    def ints(self, *numbers: int) -> str:
        return self.constant(numbers, np.int64)

    def reshape(self, x: str, *sizes: int) -> str:
        """To [batch, *sizes], the batch size copied, inferred or computed."""
        way = self.rng.integers(3)
        if way == 0:
            target = self.ints(0, *sizes)
        elif way == 1:
            target = self.ints(-1, *sizes)
        else:
            shape = self.op(f"Shape ({x})")
            first = self.op(f"Gather <axis=0> ({shape}, {self.ints(0)})")
            target = self.op(f"Concat <axis=0> ({first}, {self.ints(*sizes)})")
        return self.op(f"Reshape ({x}, {target})")

    def sequence(self) -> tuple[str, int, int, str, int]:
        """An image as a sequence [n, time, channels]; also returns what is needed to go back."""
        x, c, s = self.image()
        flat = self.reshape(x, c, s * s)
        return self.op(f"Transpose <perm=[0,2,1]> ({flat})"), c, s * s, x, s

    def back(self, y: str, c: int, s: int) -> None:
        """A sequence as an image."""
        turned = self.op(f"Transpose <perm=[0,2,1]> ({y})")
        self.images.append((self.reshape(turned, c, s, s), c, s))

    def linear(self, x: str, c: int, out: int) -> str:
        y = self.op(f"MatMul ({x}, {self.weight(c, out, scale=c**-0.5 * out**0.5)})")
        return self.op(f"Add ({y}, {self.weight(out)})") if self.rng.random() < 0.7 else y

    def conv(self, x: str, c: int, out: int, kernel: int = 1, groups: int = 1) -> str:
        weight, pad = self.weight(out, c // groups, kernel, kernel), kernel // 2
        bias = f", {self.weight(out)}" if self.rng.random() < 0.5 else ""
        return self.op(f"Conv <group={groups}, pads=[{pad},{pad},{pad},{pad}]> ({x}, {weight}{bias})")
