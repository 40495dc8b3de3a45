"""Quantizing the small model of `conftest`, and a small transformer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from optimizer.pipeline import quantize as pipeline
from optimizer.recipe import Quantize, Run
from optimizer.report.records import Result
from optimizer.runtime.session import open_session
from tests.quantize.nets import Array, normal

QUICK = Quantize(measure=False)
TRANSFORMER = """g (float[1,N,32] x) => (float[1,N,32] y)
{ q = MatMul(x, a)  k = MatMul(x, b)  v = MatMul(x, c)  t = Transpose <perm = [0, 2, 1]> (k)  s = MatMul(q, t)
  p = Softmax(s)  o = MatMul(p, v)  r = Add(o, x)  h = MatMul(r, d)  g = Add(h, e)  f = Tanh(g)  y = MatMul(f, w) }"""
MATRICES = {name: normal(32, 32, seed=seed, scale=0.2) for seed, name in enumerate("abcdw")} | {"e": normal(32)}


def run(folder: Path, step: Quantize = QUICK, data: bool = True, **options: object) -> Result:
    given = Run(data=str(folder / "data.npz") if data else None, samples=None if data else 8)
    return pipeline.quantize(folder / "net.onnx", step, given, **options)  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def answers(path: Path, count: int = 8) -> Array:
    session = open_session(path)
    return np.concatenate([session.run({"image": normal(1, 3, 16, 16, seed=seed)})[0] for seed in range(count)])
