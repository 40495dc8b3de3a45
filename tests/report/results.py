"""A result with everything in it, and names that try to be markup."""

from __future__ import annotations

import math
from typing import Any

from optimizer.report.records import (
    Accuracy,
    Change,
    FrozenAxis,
    GateResult,
    Latency,
    Machine,
    NodeDecision,
    Quantiles,
    Result,
)

EVIL = "<script>alert(1)</script>|`x`_a_"

MACHINE = Machine("Some CPU", ("avx2", "avx_vnni"), 8, 2, 0.5, "Linux 6 x86_64", "1.31.1")


def full(**changes: Any) -> Result:
    """Every field filled in; `changes` replace some."""
    side = {"microseconds": 900.0, "ops": ["Conv"], "peak_share": 0.5}
    less = {"microseconds": 400.0, "ops": ["QLinearConv"], "peak_share": 0.6}
    fields: dict[str, Any] = {
        "command": "bench",
        "input": "float.onnx",
        "output": f"{EVIL}.onnx",
        "size_bytes": Change(4_000_000, 1_000_000),
        "params": Change(1_000_000, 1_000_000),
        "macs": Change(300_000_000, 300_000_000),
        "machine": MACHINE,
        "latency_ms": Latency(
            Quantiles(10.0, 11.0, 12.0), Quantiles(5.0, 5.5, 6.0), 2.0, (1.9, 2.1), "faster", 500, 0.01
        ),
        "accuracy": Accuracy("top1", 0.9, 0.89, 0.01, 0.97, 25.0, 0.999, 0.1, 100, False),
        "nodes": (NodeDecision(EVIL, "Conv", "int8", "fused"),),
        "frozen": (FrozenAxis(EVIL, 1, "graph output"),),
        "gates": (
            GateResult("latency > 1.05x", "passed", "latency is 0.500x"),
            GateResult("size > 1KB", "missed", f"size is 1 MB {EVIL}"),
            GateResult("p99 > 6ms", "inconclusive", "between"),
        ),
        "steps": ("quantized 3 nodes",),
        "warnings": (f"something {EVIL}",),
        "throughput": Change(100.0, 200.0),
        "memory_bytes": Change(50_000_000, 20_000_000),
        "load_ms": Change(80.0, 120.0),
        "first_run_ms": Change(12.0, 7.0),
        "details": {
            "batch": 1,
            "latency_quantiles_ms": {"before": [9.0, 10.0, 12.0], "after": [4.0, 5.0, 6.0]},
            "per_op": {
                "ops": [{"op_type": "Conv", "before": 900.0, "after": 400.0, "layers": [1, 1]}],
                "layers": [
                    {"name": EVIL, "op_type": "Conv", "before": side, "after": less},
                    {"name": "q", "op_type": "QuantizeLinear", "before": None, "after": {**less, "peak_share": None}},
                ],
                "total": [0.9, 0.8],
                "peak": [4e10, 8e10],
            },
            "error_by_tensor": [
                {"tensor": "a", "op_type": "Conv", "sqnr_db": 30.0, "cosine": 0.9999},
                {"tensor": EVIL, "op_type": "Conv", "sqnr_db": 12.0, "cosine": 0.99},
                {"tensor": "same", "op_type": "Conv", "sqnr_db": None, "cosine": 1.0},
            ],
        },
    }
    return Result(**{**fields, **changes})


def bare(**changes: Any) -> Result:
    """Nothing but what every result has."""
    empty = dict.fromkeys(("latency_ms", "accuracy", "throughput", "memory_bytes", "load_ms", "first_run_ms", "output"))
    lists = dict.fromkeys(("nodes", "frozen", "gates", "steps", "warnings"), ())
    return full(**{**empty, **lists, "details": {}, **changes})


def slower() -> Result:
    """Slower, in accuracy equal, and without a sign of noise."""
    latency = Latency(Quantiles(5, 5, 5), Quantiles(10, 10, 10), 0.5, (0.49, 0.51), "slower", 10)
    return full(latency_ms=latency, accuracy=Accuracy("sqnr", math.inf, math.inf, 0, 1.0, math.inf, 1, 0, 5, True))
