"""The command line as a user meets it: a process of its own, its status, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir

from optimizer.model import io
from tests.quantize.nets import build, normal

ROOT = Path(__file__).parents[2]
NET = """g (float[N,3,16,16] image) => (float[N,4] scores)
{ a = Conv <pads = [1, 1, 1, 1]> (image, w, b)  r = Relu(a)  c = Conv(r, v)  p = GlobalAveragePool(c)
  f = Flatten(p)  scores = Gemm(f, u) }"""
ARRAYS = {"w": normal(64, 3, 3, 3), "b": normal(64), "v": normal(64, 64, 3, 3) / 16, "u": normal(64, 4)}


def network() -> ir.Model:
    """A classifier of images with an open batch, large enough for int8 to pay."""
    return build(NET, ARRAYS)


def write_model(path: Path) -> Path:
    io.save(network(), path)
    return path


def write_data(path: Path, count: int = 12, name: str = "image", **more: np.ndarray) -> Path:
    np.savez(path, **{name: normal(count, 3, 16, 16)}, **more)  # type: ignore[arg-type]
    return path


def optimize(*arguments: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m optimizer ARGUMENTS` in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "optimizer", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
