"""Pruned, quantized, and pruned then quantized: do the speed-ups multiply? Raced together, in interleaved pairs.

``python -m tests.prune.together MODEL=DATA ... [--macs 0.6] [--threads 1]``

For each model a row: speed-up of the pruned, of the quantized and of the pruned and quantized model over the original,
what the product of the first two is, the share of the size that is left, and how the answers of the last compare with
the original's on the data (the metric that fits the model, and SQNR).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline.prune import prune
from optimizer.pipeline.quantize import quantize
from optimizer.recipe import Prune, Quantize, Run

_SECONDS = 12.0


def row(model: Path, data: str, macs: float, threads: int) -> Iterator[str]:
    """The cells of one model."""
    run = Run(data=data, threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        pruned, small, both = (Path(folder, name) for name in ("pruned.onnx", "int8.onnx", "both.onnx"))
        prune(model, Prune(macs=macs, measure=False), run, output=pruned)
        quantize(model, Quantize(), run, output=small)
        quantize(pruned, Quantize(), run, output=both)
        about = common.subject(model, run)
        candidates = [io.load(path) for path in (pruned, small, both)]
        found = common.race(about.model, candidates, about.samples, run, _SECONDS).latencies
        sizes = [path.stat().st_size / model.stat().st_size for path in (pruned, small, both)]
    yield model.stem
    yield from (f"{one.speedup:.2f} ({one.ci95[0]:.2f} to {one.ci95[1]:.2f})" for one in found)
    yield f"{found[0].speedup * found[1].speedup:.2f}"
    yield f"{sizes[-1]:.0%}"
    accuracy = common.accuracy(about.model, candidates[-1], about.samples, run)
    yield f"{accuracy.metric} {accuracy.after:.3f}, {accuracy.sqnr_db:.1f} dB"


def main() -> None:
    """Print the table as its rows become known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL=DATA")
    parser.add_argument("--macs", type=float, default=0.6)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(f"| model | pruned to {given.macs:.0%} | quantized | both | product | size | answers |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for pair in given.models:
        model, _, data = pair.partition("=")
        print("| " + " | ".join(row(Path(model), data, given.macs, given.threads)) + " |", flush=True)


if __name__ == "__main__":
    main()
