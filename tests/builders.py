"""Small models for tests, written as ONNX text."""

from __future__ import annotations

import onnx_ir as ir


def model(text: str, opset: int = 17, ir_version: int = 8, extra_opsets: str = "") -> ir.Model:
    """A model from the text of its graph, e.g. ``g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }``."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}{extra_opsets}]>'
    return ir.from_onnx_text(header + text)
