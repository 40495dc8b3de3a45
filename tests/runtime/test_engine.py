"""Nothing leaves the machine: telemetry is off before onnxruntime is imported, whichever way it is reached."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROBE = """
import builtins, importlib, os, sys
real = builtins.__import__
def watched(name, *rest, **named):
    if name == "onnxruntime" and "onnxruntime" not in sys.modules:
        print(os.environ.get("ORT_DISABLE_TELEMETRY"), "ORT_LOAD_CONFIG_FROM_MODEL" in os.environ)
    return real(name, *rest, **named)
builtins.__import__ = watched
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize(
    "module", ["optimizer.runtime.engine", "optimizer.runtime.session", "optimizer.pipeline.quantize"]
)
def test_telemetry_is_off_before_the_runtime_is_imported(module: str) -> None:
    environment = {**os.environ, "ORT_LOAD_CONFIG_FROM_MODEL": "1"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", PROBE, module]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "False"]
