"""Clean-up before anything else touches a model: exact rewrites that leave the same function in a plainer graph.

Graph inputs and outputs keep names, dtypes and order. The passes run in a fixed order until none of them finds
anything more, so the same model always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from optimizer.model import shapes
from optimizer.model.passes import affine, constants, dead

_ROUNDS = 8
"""Each round but the last changed something; real models need two or three."""

_PASSES: tuple[tuple[str, Callable[[ir.Model], int]], ...] = (
    ("turned {} constants into initializers", constants.lift_constants),
    ("removed {} nodes that copy their input", dead.remove_identities),
    ("folded {} BatchNormalization into the operator before it", affine.fold_batch_norm),
    ("folded {} per-channel Mul, Div, Add or Sub into the operator before it", affine.fold_scale_and_shift),
    ("merged {} nodes that compute the same", dead.merge_duplicates),
    ("merged {} equal constants", dead.merge_constants),
    ("removed {} unused nodes and initializers", dead.remove_unused),
)


def clean(model: ir.Model) -> list[str]:
    """Rewrite `model` in place; returns one line per kind of change, and a note where shapes are unknown."""
    found: dict[str, int] = {}
    _count(found, "inlined {} functions", inline(model))
    _count(found, "took {} initializers out of the graph inputs", constants.unlist_initializers(model))
    for _ in range(_ROUNDS):
        note = shapes.infer(model)
        changed = [_count(found, text, rewrite(model)) for text, rewrite in _PASSES]
        if not any(changed):
            break
    return [text.format(number) for text, number in found.items()] + ([note] if note else [])


def inline(model: ir.Model) -> int:
    """Replace the calls of model functions by their bodies; `validate` has bounded how large that can get."""
    functions = len(model.functions)
    if functions:
        InlinePass()(model)
    return functions - len(model.functions)


def _count(found: dict[str, int], text: str, number: int) -> bool:
    if number:
        found[text] = found.get(text, 0) + number
    return number > 0
