"""The graph that ONNX Runtime really executes: fused, folded, laid out, with the int8 kernels it chose."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir

from optimizer.runtime.session import Level, Options, Source, open_session


def optimized(source: Source, level: Level = "all") -> ir.Model:
    """The runtime's own optimized form of a model, all tensors in memory.

    It holds ops of the runtime's domains (com.microsoft, com.microsoft.nchwc) that no checker knows, and is only to be
    looked at: it suits the CPU it was made on. Raises `ModelError` if the runtime cannot load the model.
    """
    with tempfile.TemporaryDirectory(prefix="optimize-") as folder:
        dump = Path(folder) / "optimized.onnx"
        open_session(source, Options(level=level, dump=dump))
        model = ir.load(dump)
        ir.external_data.load_to_model(model)
    return model
