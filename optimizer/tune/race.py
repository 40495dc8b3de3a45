"""Timing on a machine that other workers use too: ratios to the original only, and one race at a time.

A ratio from interleaved runs holds while the load changes; two races at once would still share the memory and the last
level of cache in ways that no pairing cancels. So a race holds a lock of the machine, a file in the temporary folder.

A *host class* is what must be equal for ratios to be compared: CPU model, instruction sets, threads, ONNX Runtime.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from optimizer.data.samples import Samples
from optimizer.pipeline import common
from optimizer.recipe import Run
from optimizer.report.records import Latency
from optimizer.runtime import machine
from optimizer.tune.locks import FileLock

_LOCK = Path(tempfile.gettempdir()) / f"optimize-timing-{os.getuid() if hasattr(os, 'getuid') else 0}.lock"


def host_class(threads: int) -> str:
    """The class of this machine, as a text to compare and to print."""
    where = machine.describe(threads)
    return f"{where.cpu}, {' '.join(where.isa)}, {threads} threads, ONNX Runtime {where.onnxruntime}"


def alone() -> FileLock:
    """The lock of this machine's races."""
    return FileLock(_LOCK)


def race(
    original: ir.Model, candidates: Sequence[ir.Model], samples: Samples, run: Run, seconds: float
) -> list[Latency]:
    """Latency of each of the candidates against the original, alone among the races of this machine."""
    with alone():
        return list(common.race(original, candidates, samples, run, seconds).latencies)
