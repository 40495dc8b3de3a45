"""The table of the evaluator: one row per op, by op name (with the domain before it unless it is ONNX's own)."""

from __future__ import annotations

from optimizer.train.rows import (
    attention,
    control,
    elementwise,
    linear,
    norm,
    packed,
    pool,
    qlinear,
    quantized,
    recurrent,
    reduce,
    resize,
    shape,
)
from optimizer.train.table import Row

_PARTS = (
    elementwise,
    shape,
    reduce,
    linear,
    pool,
    norm,
    recurrent,
    resize,
    control,
    quantized,
    packed,
    qlinear,
    attention,
)

ROWS: dict[str, Row] = {op: row for part in _PARTS for op, row in part.ROWS.items()}

if len(ROWS) != sum(len(part.ROWS) for part in _PARTS):
    raise RuntimeError("an op has two rows")
