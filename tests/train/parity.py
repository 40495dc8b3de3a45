"""Prints how far the torch evaluator is from ONNX Runtime on whole models, one line each.

    python -m tests.train.parity MODEL_OR_FOLDER ... [--gradients]

Inputs are synthetic (open sizes as the data module chooses them). `--gradients` also says how many of the learnable
numbers get a gradient. A model that an op without a row keeps out fails; exit status 1 if any does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from optimizer.errors import UserError
from optimizer.model import io
from optimizer.model.ports import Array, Feed
from optimizer.pipeline import common
from optimizer.recipe import Run
from optimizer.runtime.session import Options, open_session
from optimizer.train.dtypes import to_torch
from optimizer.train.evaluator import Evaluator, missing_rows
from optimizer.train.parameters import Parameters
from tests.train.oracle import filled, relative_error, unsaturated

TOLERANCE = 1e-3


def models(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(path.glob("**/*.onnx")) if path.is_dir() else [path]


def errors(model: ir.Model, evaluator: Evaluator, feed: Feed) -> float:
    """The largest relative error of a real output; integers (ids of ties) are compared by their share."""
    expected: list[Array] = open_session(model, Options(level="none")).run(feed)
    pairs = list(zip(evaluator.numpy(feed), expected, strict=True))
    real = [relative_error(own, other) for own, other in pairs if other.dtype.kind == "f"]
    whole = [float((own != other).mean()) for own, other in pairs if other.dtype.kind != "f" and other.size]
    return max([*real, *whole], default=0.0)


def gradients(model: ir.Model, evaluator: Evaluator, feed: Feed) -> str:
    """How many learnable tensors a sum over the real outputs reaches."""
    torch = evaluator.torch
    parameters = Parameters(evaluator, model)
    found = evaluator.run({name: to_torch(torch, array) for name, array in feed.items()}, parameters.given())
    real = [value.square().mean() for value in found.values() if value.is_floating_point() and value.requires_grad]
    if not real:
        return "no output depends on a weight"
    sum(real).backward()
    tensors = parameters.tensors.values()
    live = sum(tensor.grad is not None and bool(torch.isfinite(tensor.grad).all()) for tensor in tensors)
    return f"gradients reach {live} of {len(parameters.tensors)} tensors"


def _trained(model: ir.Model) -> bool:
    """Whether it holds weights; the light models of the onnx wheel make theirs up from shapes."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return any(tensor is not None and tensor.dtype.is_floating_point() and len(tensor.shape) > 1 for tensor in tensors)


def line(path: Path, wanted: bool) -> tuple[bool, str]:
    """Whether the model passes, and what is said of it."""
    begun = time.monotonic()
    try:
        model = io.load(path)
        model = unsaturated(model if _trained(model) else filled(model))
        if missing := missing_rows(model):
            return False, "no row for " + ", ".join(missing)
        evaluator, feed = Evaluator(model), common.prepare(path, model, Run(samples=1)).samples[0]
        worst = errors(model, evaluator, feed)
        reach = gradients(model, evaluator, feed) if wanted else ""
    except (UserError, AssertionError) as error:
        return False, repr(error)
    return bool(np.isfinite(worst) and worst < TOLERANCE), f"{worst:.1e}  {time.monotonic() - begun:.0f} s  {reach}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--gradients", action="store_true")
    options = parser.parse_args()
    failed = 0
    count = 0
    for path in models(options.paths):
        good, said = line(path, options.gradients)
        count, failed = count + 1, failed + (not good)
        print(f"{'ok  ' if good else 'FAIL'} {path.name:40} {said}", flush=True)
    print(f"{count - failed} of {count} within {TOLERANCE:g}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
