"""The two optimizers, on tensors by name, with a state that is plain arrays.

    adamw   m = 0.9 m + 0.1 g,  v = 0.999 v + 0.001 g^2,  w -= lr (size * m^ / (sqrt(v^) + 1e-8) + decay * w)
    sgd     m = 0.9 m + g,      w -= lr (g + 0.9 m + decay * w)

m^ and v^ are the averages without the bias of their start (Loshchilov and Hutter, "Decoupled Weight Decay
Regularization", 2019); sgd has Nesterov's momentum. `size` is the root mean square that the weights had at the start,
per first index of filters and per tensor otherwise (Shazeer and Stern, "Adafactor", 2018, scale a step like that), and
1 where they are all zero: the rate of adamw is a share of what is there. In a graph whose batch normalization is
folded, filters differ in size by orders of magnitude, and any one step in absolute terms is nothing to some and the
end of others.

They are written out because torch's own load its compiler when they are made, which takes longer than many runs. All
tensors are moved in one call: most are too small to be worth one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from optimizer.model.ports import Array
from optimizer.train.table import Tensor

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


@dataclasses.dataclass
class Descent:
    """Moves `tensors` along their gradients. Only those in `decayed` decay."""

    torch: Any
    kind: str
    tensors: Mapping[str, Tensor]
    decayed: set[str]
    weight_decay: float

    def __post_init__(self) -> None:
        self.steps: dict[str, int] = dict.fromkeys(self.tensors, 0)
        self.sizes = {name: self._size(tensor) for name, tensor in self.tensors.items()}
        parts = ("first", "second") if self.kind == "adamw" else ("first",)
        self.moments = {
            part: {name: self.torch.zeros_like(tensor) for name, tensor in self.tensors.items()} for part in parts
        }

    def _size(self, tensor: Tensor) -> Tensor:
        squares, axes = tensor.detach().square(), tuple(range(1, tensor.ndim))
        whole = squares.mean()
        sizes = squares.mean(axes, keepdim=True) if tensor.ndim > 2 else whole
        return self.torch.where(sizes > 0, sizes, whole if whole > 0 else 1.0).sqrt()

    def clear(self) -> None:
        """Forget the gradients."""
        for tensor in self.tensors.values():
            tensor.grad = None

    def clip(self, limit: float) -> float:
        """Shorten the gradient of all tensors together to `limit` (0: leave it); returns the length it had."""
        grads = [tensor.grad for tensor in self.tensors.values() if tensor.grad is not None]
        length = math.sqrt(sum(float(norm) ** 2 for norm in self.torch._foreach_norm(grads))) if grads else 0.0
        if limit and length > limit:
            self.torch._foreach_mul_(grads, limit / length)
        return length

    def move(self, rate: float) -> None:
        """One step. A tensor without a gradient stays where it is."""
        live = [name for name, tensor in self.tensors.items() if tensor.grad is not None]
        if not live:
            return
        tensors = [self.tensors[name] for name in live]
        with self.torch.no_grad():
            grads = [tensor.grad for tensor in tensors]
            for name in live:
                self.steps[name] += 1
            steps = self._adamw(live, grads) if self.kind == "adamw" else self._sgd(live, grads)
            if self.weight_decay:
                shares = [self.weight_decay * (name in self.decayed) for name in live]
                self.torch._foreach_add_(steps, self.torch._foreach_mul(tensors, shares))
            self.torch._foreach_add_(tensors, steps, alpha=-rate)

    def _adamw(self, live: list[str], grads: list[Tensor]) -> list[Tensor]:
        many = self.torch
        first, second = ([self.moments[part][name] for name in live] for part in ("first", "second"))
        many._foreach_lerp_(first, grads, 1 - _FIRST)
        many._foreach_mul_(second, _SECOND)
        many._foreach_addcmul_(second, grads, grads, 1 - _SECOND)
        spreads = many._foreach_div(second, [1 - _SECOND ** self.steps[name] for name in live])
        many._foreach_sqrt_(spreads)
        many._foreach_add_(spreads, _TINY)
        means: list[Tensor] = many._foreach_div(first, [1 - _FIRST ** self.steps[name] for name in live])
        many._foreach_div_(means, spreads)
        many._foreach_mul_(means, [self.sizes[name] for name in live])
        return means

    def _sgd(self, live: list[str], grads: list[Tensor]) -> list[Tensor]:
        first = [self.moments["first"][name] for name in live]
        self.torch._foreach_mul_(first, _FIRST)
        self.torch._foreach_add_(first, grads)
        steps: list[Tensor] = self.torch._foreach_add(grads, first, alpha=_FIRST)
        return steps

    def state(self) -> dict[str, Array]:
        """All moments, sizes and step counts as arrays by `part/tensor`."""
        moments = {f"{part}/{name}": np.array(tensor.numpy(), order="C")
                   for part, tensors in self.moments.items() for name, tensor in tensors.items()}  # fmt: skip
        sizes = {f"size/{name}": np.array(tensor.numpy()) for name, tensor in self.sizes.items()}
        return {**moments, **sizes, **{f"steps/{name}": np.asarray(count) for name, count in self.steps.items()}}

    def load(self, state: Mapping[str, Array]) -> None:
        """Set what `state` returned."""
        for part, tensors in self.moments.items():
            for name, tensor in tensors.items():
                tensor.copy_(self.torch.from_numpy(state[f"{part}/{name}"]))
        self.sizes = {name: self.torch.from_numpy(state[f"size/{name}"]) for name in self.sizes}
        self.steps = {name: int(state[f"steps/{name}"]) for name in self.steps}
