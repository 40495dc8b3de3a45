"""The one door to onnxruntime: import it from here, never directly.

ONNX Runtime's Linux wheels report usage over the network since 1.29 unless ``ORT_DISABLE_TELEMETRY=1`` is in the
environment *before* the first import (later API calls may miss the first event). ``ORT_LOAD_CONFIG_FROM_MODEL`` would
let a model file carry its own session options, so it is cleared.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)

import onnxruntime as ort  # noqa: TID251 - the order is the point, and this is the door

FATAL = 4
"""Log severity that keeps the runtime quiet; what it refuses comes back as an exception all the same."""

ort.set_default_logger_severity(FATAL)

RUNTIME_FAILURES: tuple[type[Exception], ...] = tuple(
    getattr(ort.capi.onnxruntime_pybind11_state, name)
    for name in ("Fail", "InvalidArgument", "NotImplemented", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "EPFail",
                 "RuntimeException", "ModelRequiresCompilation", "NoModel", "EngineError")
    if hasattr(ort.capi.onnxruntime_pybind11_state, name)
)  # fmt: skip
"""All exceptions that onnxruntime raises for a model or an input it does not accept."""

__all__ = ["FATAL", "RUNTIME_FAILURES", "ort"]
