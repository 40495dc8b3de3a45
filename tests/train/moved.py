"""Models whose learnt tensors were moved by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from optimizer.train.evaluator import Evaluator
from optimizer.train.parameters import Parameters


def rows(count: int = 16) -> Any:
    return np.random.default_rng(0).normal(0, 1, (count, 3)).astype(np.float32)


def moved(graph: ir.Model, by: float = 0.05) -> tuple[Parameters, ir.Model]:
    """The parameters after each learnt tensor moved by a random amount, and the model they were written into."""
    parameters = Parameters(Evaluator(graph), graph)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in parameters.tensors.values():
            tensor.add_(by * torch.randn(tensor.shape, generator=generator))
    copy = graph.clone()
    parameters.write(copy)
    return parameters, copy
