"""The two optimizers, on tensors by name, with a state that is plain arrays.

    adamw   m = 0.9 m + 0.1 g,  v = 0.999 v + 0.001 g^2,  w -= lr (m^ / (sqrt(v^) + 1e-8) + decay * w)
    sgd     m = 0.9 m + g,      w -= lr (g + 0.9 m + decay * w)

m^ and v^ are the averages without the bias of their start (Loshchilov and Hutter, "Decoupled Weight Decay
Regularization", 2019); sgd has Nesterov's momentum. They are written out because torch's own load its compiler when
they are made, which takes longer than many runs.
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
        parts = ("first", "second") if self.kind == "adamw" else ("first",)
        self.moments = {
            part: {name: self.torch.zeros_like(tensor) for name, tensor in self.tensors.items()} for part in parts
        }

    def clear(self) -> None:
        """Forget the gradients."""
        for tensor in self.tensors.values():
            tensor.grad = None

    def clip(self, limit: float) -> float:
        """Shorten the gradient of all tensors together to `limit` (0: leave it); returns the length it had."""
        grads = [tensor.grad for tensor in self.tensors.values() if tensor.grad is not None]
        length = math.sqrt(sum(float(grad.square().sum()) for grad in grads))
        if limit and length > limit:
            for grad in grads:
                grad.mul_(limit / length)
        return length

    def move(self, rate: float) -> None:
        """One step. A tensor without a gradient stays where it is."""
        with self.torch.no_grad():
            for name, tensor in self.tensors.items():
                if tensor.grad is not None:
                    self.steps[name] += 1
                    step = self._adamw(name, tensor.grad) if self.kind == "adamw" else self._sgd(name, tensor.grad)
                    if name in self.decayed and self.weight_decay:
                        step = step + self.weight_decay * tensor
                    tensor.sub_(rate * step)

    def _adamw(self, name: str, grad: Tensor) -> Tensor:
        first, second = self.moments["first"][name], self.moments["second"][name]
        first.mul_(_FIRST).add_(grad, alpha=1 - _FIRST)
        second.mul_(_SECOND).addcmul_(grad, grad, value=1 - _SECOND)
        count = self.steps[name]
        spread = (second / (1 - _SECOND**count)).sqrt_().add_(_TINY)
        return first / (1 - _FIRST**count) / spread

    def _sgd(self, name: str, grad: Tensor) -> Tensor:
        first = self.moments["first"][name]
        first.mul_(_FIRST).add_(grad)
        return grad + _FIRST * first

    def state(self) -> dict[str, Array]:
        """All moments and step counts as arrays by `part/tensor`."""
        moments = {f"{part}/{name}": np.array(tensor.numpy(), order="C")
                   for part, tensors in self.moments.items() for name, tensor in tensors.items()}  # fmt: skip
        return {**moments, **{f"steps/{name}": np.asarray(count) for name, count in self.steps.items()}}

    def load(self, state: Mapping[str, Array]) -> None:
        """Set what `state` returned."""
        for part, tensors in self.moments.items():
            for name, tensor in tensors.items():
                tensor.copy_(self.torch.from_numpy(state[f"{part}/{name}"]))
        self.steps = {name: int(state[f"steps/{name}"]) for name in self.steps}
