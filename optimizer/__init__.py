"""Make ONNX models small and fast on CPU, with proof.

The functions below are the library's interface; each is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimizer.bench.compare import bench
    from optimizer.model.io import load, save
    from optimizer.pipeline.finetune import finetune
    from optimizer.pipeline.inspect import inspect
    from optimizer.pipeline.prune import prune
    from optimizer.pipeline.quantize import quantize

__all__ = ["bench", "finetune", "inspect", "load", "prune", "quantize", "save"]

_HOMES = {
    "bench": "optimizer.bench.compare",
    "finetune": "optimizer.pipeline.finetune",
    "inspect": "optimizer.pipeline.inspect",
    "load": "optimizer.model.io",
    "prune": "optimizer.pipeline.prune",
    "quantize": "optimizer.pipeline.quantize",
    "save": "optimizer.model.io",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
