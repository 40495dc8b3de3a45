"""A teacher, students of it, and data that they learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from optimizer.data.samples import Samples, in_memory
from optimizer.recipe import Finetune
from optimizer.runtime.session import open_session
from optimizer.train.constants import constants
from tests.builders import model

RANDOM = np.random.default_rng(0)
QUICK = Finetune(epochs=30, lr=3e-2, batch=16, patience=1000, augment="none")


def numbers(*shape: int, scale: float = 1.0) -> str:
    return ", ".join(f"{number:.4f}" for number in (scale * RANDOM.normal(0, 1, shape)).ravel())


W1, B1, W2, B2 = numbers(6, 12, scale=0.6), numbers(12, scale=0.1), numbers(12, 4, scale=0.5), numbers(4, scale=0.1)


def network(batch: str = "n", tail: str = "y = Identity(t)") -> ir.Model:
    return model(f"""g (float[{batch},6] x) => (float[{batch},4] y) <float[6,12] w1 = {{{W1}}}, float[12] b1 = {{{B1}}},
        float[12,4] w2 = {{{W2}}}, float[4] b2 = {{{B2}}}> {{
        a = MatMul(x, w1) b = Add(a, b1) c = Relu(b) d = MatMul(c, w2) t = Add(d, b2) {tail} }}""")


def damaged(teacher: ir.Model, share: float = 0.6) -> ir.Model:
    student = teacher.clone()
    noise = np.random.default_rng(1)
    for constant in constants(student).values():
        array = constant.array()
        if array.dtype.kind != "f":
            continue
        constant.replace((array + share * array.std() * noise.normal(0, 1, array.shape)).astype(array.dtype))
    return student


def pruned(teacher: ir.Model) -> ir.Model:
    student = teacher.clone()
    for constant in constants(student).values():
        array = constant.array().copy()
        if array.ndim == 2:
            array[np.abs(array) < np.median(np.abs(array))] = 0
            constant.replace(array)
    return student


def data(count: int = 64, labels: Any = None) -> Samples:
    rows = np.random.default_rng(2).normal(0, 1, (count, 1, 6)).astype(np.float32)
    return in_memory([{"x": row} for row in rows], labels, joinable=True)


def answers(graph: ir.Model) -> Any:
    session, rows = open_session(graph), np.random.default_rng(9).normal(0, 1, (200, 1, 6)).astype(np.float32)
    return np.concatenate([session.run({"x": row})[0] for row in rows])


def error(student: ir.Model, teacher: ir.Model) -> float:
    return float(np.square(answers(student) - answers(teacher)).mean())
