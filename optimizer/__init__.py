"""Make ONNX models small and fast on CPU, with proof.

The functions below are the library's interface; each is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimizer.bench.compare import bench
    from optimizer.model.io import load, save
    from optimizer.pipeline.finetune import finetune
    from optimizer.pipeline.inspect import inspect
    from optimizer.pipeline.prune import prune
    from optimizer.pipeline.quantize import quantize
    from optimizer.tune.search import tune

__all__ = ["bench", "finetune", "inspect", "load", "prune", "quantize", "save", "tune"]

_HOMES = {
    "bench": "optimizer.bench.compare",
    "finetune": "optimizer.pipeline.finetune",
    "inspect": "optimizer.pipeline.inspect",
    "load": "optimizer.model.io",
    "prune": "optimizer.pipeline.prune",
    "quantize": "optimizer.pipeline.quantize",
    "save": "optimizer.model.io",
    "tune": "optimizer.tune.search",
}


class _Interface(types.ModuleType):
    """This package: `optimizer.quantize` is the function, though a package of that name is imported along the way.

    The import system makes every submodule an attribute of its parent, which would hide the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Interface


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
