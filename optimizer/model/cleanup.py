"""Clean-up before anything else touches a model: exact rewrites that leave the same function in a plainer graph.

Graph inputs and outputs keep names, dtypes and order. The passes run in a fixed order until none of them finds
anything more, so the same model always gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import onnx_ir as ir

from optimizer.model import cost, shapes
from optimizer.model.passes import (
    affine,
    constants,
    contrib,
    dead,
    edit,
    folding,
    functions,
    hard_sigmoid,
    layer_norm,
    pooling,
    shape_arithmetic,
)
from optimizer.model.passes.opset import NEWEST, upgrade

_ROUNDS = 64
"""Each round but the last changed something. Most models need two or three; a chain of blocks that pad by computed
sizes (shifted windows) needs one a block, since each has to be folded before the sizes of the next are known."""

_BEFORE: tuple[tuple[str, Callable[[ir.Model], int]], ...] = (
    ("inlined {} functions", functions.inline),
    ("took {} initializers out of the graph inputs", constants.unlist_initializers),
    ("turned {} constants into initializers", constants.lift_constants),
    ("merged {} equal constants", dead.merge_constants),
)
_ROUND: tuple[tuple[str, Callable[[ir.Model], int]], ...] = (
    ("spelled out {} operators that the runtime had fused", contrib.spell_out),
    ("replaced {} shape computations by what they give", shape_arithmetic.fold_shapes),
    ("removed {} nodes that copy their input", dead.remove_identities),
    ("replaced {} If nodes by the branch they take", folding.take_branches),
    ("folded {} BatchNormalization into the operator before it", affine.fold_batch_norm),
    ("folded {} per-channel Mul, Div, Add or Sub into the operator before it", affine.fold_scale_and_shift),
    ("turned {} means over all pixels into GlobalAveragePool", pooling.pool_means),
    ("joined {} layer normalizations", layer_norm.fuse_layer_norm),
    ("joined {} hard sigmoids", hard_sigmoid.fuse_hard_sigmoid),
    ("merged {} nodes that compute the same", dead.merge_duplicates),
    ("merged {} equal constants", dead.merge_constants),
    ("removed {} unused nodes and initializers", dead.remove_unused),
)
_LEAST_GROWTH = 2**15
"""Bytes of constants that a model may grow by, however small it is; the runtime evaluates the rest when it loads."""
_FOLDED = "evaluated {} nodes that depend on constants only"


def clean(model: ir.Model, opset: int | None = NEWEST) -> list[str]:
    """Rewrite `model` in place; returns one line per kind of change, and notes on what could not be done.

    `opset` (13 to 17) is what older models are raised to; None leaves the opset alone. Evaluating constants
    lets the tensors grow by a tenth and 1 MB at most (32 kB are always allowed); besides, a shared weight is copied
    where a normalization is folded into one of its readers.
    """
    found: Counter[str] = Counter()
    size = cost.tensor_bytes(model)
    limit = size + min(folding.GROWTH, max(_LEAST_GROWTH, size // 10))
    _run(model, _BEFORE, found)
    note = _rounds(model, limit, found)
    raised = _raise_opset(model, opset)
    if raised:
        note = _rounds(model, limit, found)
    lines = [text.format(number) for text, number in found.items() if number]
    return [*raised, *lines, *([note] if note else [])]


def _rounds(model: ir.Model, limit: int, found: Counter[str]) -> str | None:
    """Run all passes until none finds anything; returns the note of the last shape inference."""
    note = None
    for _ in range(_ROUNDS):
        note = shapes.infer(model)
        folded = folding.fold_constants(model, limit - cost.tensor_bytes(model))
        found[_FOLDED] += folded
        if not _run(model, _ROUND, found) + folded:
            break
    return note


def _raise_opset(model: ir.Model, target: int | None) -> list[str]:
    old = edit.opset(model)
    if target is None or old >= target:
        return []
    return [upgrade(model, target) or f"raised the opset from {old} to {target}"]


def _run(model: ir.Model, passes: tuple[tuple[str, Callable[[ir.Model], int]], ...], found: Counter[str]) -> int:
    changed = 0
    for text, rewrite in passes:
        number = rewrite(model)
        found[text] += number
        changed += number
    return changed
