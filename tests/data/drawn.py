"""Samples that are drawn for a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from optimizer.data.samples import Samples
from optimizer.data.spec import open_samples
from optimizer.runtime.session import open_session
from tests import builders

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def drawn(model: ir.Model, count: int = 8, seed: int = 0, dims: dict[str, int] | None = None) -> Samples:
    """Samples of a model, each of which ONNX Runtime accepts."""
    runs = open_session(model).accepts
    samples = open_samples(None, model, count=count, seed=seed, dims=dims, runs=runs)
    assert samples.synthetic and all(runs(feed) for feed in samples)
    return samples


def together(samples: Samples, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    return np.concatenate([feed[name].ravel() for feed in samples])


def zeros(*shape: int) -> str:
    """A list of zeros for a tensor in ONNX text."""
    return "{" + ",".join(["0"] * int(np.prod(shape))) + "}"


def embedding(rows: int, path: str) -> ir.Model:
    return builders.model(
        f"""g (int64[B,S] ids) => (float[B,S,2] y) <float[{rows},2] table = {zeros(rows, 2)}, int64[1] one = {{1}},
        int64 two = {{2}}, int64[3] wide = {{0,0,1}}, int64[2] plain = {{0,-1}}> {{
          {path}
        }}"""
    )
