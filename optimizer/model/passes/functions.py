"""Model functions become plain nodes, so that all other rewrites see what is computed."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass


def inline(model: ir.Model) -> int:
    """Replace the calls of model functions by their bodies; `validate` has bounded how large that can get."""
    before = len(model.functions)
    if before:
        InlinePass()(model)
    return before - len(model.functions)
