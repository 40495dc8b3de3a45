"""Model functions become plain nodes, so that all other rewrites see what is computed.

A function that is written for another version of an operator set than the model stays a call.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass


def inline(model: ir.Model) -> int:
    """Replace the calls of model functions by their bodies; `validate` has bounded how large that can get."""
    before = len(model.functions)
    if before and all(_fits(model, function) for function in model.functions.values()):
        InlinePass()(model)
    return before - len(model.functions)


def _fits(model: ir.Model, function: ir.Function) -> bool:
    own = model.opset_imports
    return all(own.get(domain, version) == version for domain, version in function.opset_imports.items())
