"""The graph itself, in memory an `onnx_ir.Model`: loading, saving, checking, shapes, cost, clean-up. Runs nothing."""
