"""Timing on a machine that other workers use too: ratios to the original only, and one race at a time.

A ratio from interleaved runs holds while the load changes; two races at once would still share the memory and the last
level of cache in ways that no pairing cancels. So a race holds a lock of the machine, a file in the temporary folder.

A *host class* is what must be equal for ratios to be compared: CPU model, instruction sets, threads, ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx_ir as ir

from optimizer.data.samples import Samples
from optimizer.pipeline import common
from optimizer.recipe import Run
from optimizer.report.records import Latency
from optimizer.runtime import machine


def host_class(threads: int) -> str:
    """The class of this machine, as a text to compare and to print."""
    where = machine.describe(threads)
    return f"{where.cpu}, {' '.join(where.isa)}, {threads} threads, ONNX Runtime {where.onnxruntime}"


def race(
    original: ir.Model, candidates: Sequence[ir.Model], samples: Samples, run: Run, seconds: float
) -> list[Latency]:
    """Latency of each of the candidates against the original, alone among the races of this machine."""
    with alone():
        return list(common.race(original, candidates, samples, run, seconds).latencies)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nobody else on this machine is in here meanwhile. The lock goes with its process, however that ends."""
    path = Path(tempfile.gettempdir()) / f"optimize-timing-{os.getuid() if hasattr(os, 'getuid') else 0}.lock"
    with path.open("ab") as file:
        _lock(file.fileno())
        yield


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            with contextlib.suppress(OSError):  # it gives up after ten seconds
                msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
                return
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_EX)
