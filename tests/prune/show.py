"""What structured pruning promises, as measured: `python -m tests.prune.show lights|zoo|latency`.

`lights`: the nine light models of the onnx wheel with random weights, without their last Softmax. `zoo`: every model in
$ZOO_DIR and in `sample_models/`. A line for each: the largest relative difference between the removed and the masked
model with 30%, 50% and 70% of every group gone at random; how much that changed the answers at the least (if hardly,
equality says little); the share of the parameters that `--sparsity 0.5` removes. `latency`: light_resnet50, halved.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from optimizer.errors import UserError
from optimizer.model import cleanup, io
from optimizer.pipeline.prune import prune
from optimizer.recipe import Prune, Run
from tests.prune.equality import compare
from tests.prune.lights import NAMES, light

SHARES = (0.3, 0.5, 0.7)
ZOO = Path(os.environ.get("ZOO_DIR", Path.home() / ".cache" / "optimize-zoo"))
SAMPLES = Path(__file__).parents[2] / "sample_models"
REAL = [*sorted(ZOO.glob("*.onnx")), *sorted(SAMPLES.glob("*.onnx"))]


def line(name: str, model: ir.Model) -> str:
    """The line of one model."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "m.onnx"), Path(folder, "out.onnx")
        io.save(model, source)
        try:
            found = prune(source, Prune(sparsity=0.5, measure=False), Run(samples=1), output=target)
            gone = f"gone {1 - found.params.after / found.params.before:.3f}"
        except UserError as error:
            gone = f"refused: {error}"
    cleanup.clean(model)
    outcomes = [compare(model, share) for share in SHARES]
    errors = " ".join(f"{outcome.difference:.0e}" for outcome in outcomes)
    return f"{name:28}error {errors} change {min(outcome.change for outcome in outcomes):.0e} {gone}"


def models(which: str) -> Iterator[tuple[str, ir.Model]]:
    """The models to show, by name."""
    if which == "lights":
        yield from ((name, light(name)) for name in NAMES)
    else:
        yield from ((path.stem, io.load(path)) for path in REAL)


def latency() -> str:
    """How much faster half of light_resnet50 is."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "m.onnx"), Path(folder, "out.onnx")
        io.save(light("resnet50"), source)
        found = prune(source, Prune(sparsity=0.5), output=target).latency_ms
    assert found is not None
    return f"resnet50: {found.speedup:.2f}x, 95% {found.ci95[0]:.2f} to {found.ci95[1]:.2f}"


def main(which: str) -> None:
    """Print a line for each model."""
    if which == "latency":
        print(latency())
        return
    for name, model in models(which):
        print(line(name, model), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
