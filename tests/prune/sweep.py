"""Prune many models by half and print a line for each: `python -m tests.prune.sweep FOLDER_OR_MODEL... `.

A line says: the model; the share of its parameters that lies in tensors that can shrink; the share gone at
`--sparsity 0.5`; the largest relative difference between the removed and the masked model, for that choice and for a
random half of every group; how much masking changes the answers (if that is nothing, equality proves nothing); seconds
for clean-up, analysis and choice; and what freezes most of the rest. Every model runs in a process of its own.

Untrained models are full of vectors of one number (a head of zeros, layer scales of 1e-6), which hide differences; they
get random numbers first.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from optimizer.calibrate import equality
from optimizer.choice import structured
from optimizer.choice.importance import magnitude
from optimizer.data.spec import open_samples
from optimizer.errors import OptimizeError
from optimizer.model import cleanup, io
from optimizer.prune import prepare, remove
from optimizer.prune.groups import Axes, Bools, analyse
from optimizer.prune.sizes import Sizes
from optimizer.runtime.session import Options, open_session
from tests.prune.equality import some_labels

T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """What a function gives, and its seconds."""
    start = time.perf_counter()
    found = function()
    return found, time.perf_counter() - start


def line(path: Path) -> str:
    """The line of one model."""
    model = io.load(path)
    unfill(model.graph)
    _, cleaning = timed(lambda: cleanup.clean(model))
    base = prepare.prepare(model)
    axes, seconds = timed(lambda: analyse(base))
    sizes = Sizes(axes)
    target = structured.Target(sizes.params - sizes.prunable / 2)
    chosen, choosing = timed(lambda: structured.choose(axes, target, magnitude))
    gone = 1 - sizes.params_of(chosen) / sizes.params
    worst, change = compared(model, axes, base, chosen)
    base = prepare.prepare(model)
    axes = analyse(base)
    other, _ = compared(model, axes, base, some_labels(axes, 0.5, 0))
    times = f"clean {cleaning:.1f}s axes {seconds:.1f}s choose {choosing:.1f}s"
    figures = f"prunable {sizes.prunable / sizes.params:.3f} gone {gone:.3f} error {worst:.0e} {other:.0e}"
    return f"{figures} change {change:.0e} {times} | {'; '.join(reasons(axes))}"


def unfill(graph: ir.Graph) -> None:
    """Random numbers in place of float constants of one number: 0 becomes small, others near 1."""
    rng = np.random.default_rng(0)
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.size < 2 or not tensor.dtype.is_floating_point():
            continue
        array = tensor.numpy()
        if (array == array.flat[0]).all():
            small = rng.standard_normal(array.shape) / np.sqrt(max(array.shape))
            new = small if array.flat[0] == 0 else rng.uniform(0.5, 1.5, array.shape)
            value.const_value = ir.tensor(new.astype(array.dtype), name=value.name)


def compared(model: ir.Model, axes: Axes, base: ir.Model, dropped: Bools) -> tuple[float, float]:
    """The difference between removed and masked, and between masked and the model as it was."""
    masked = base.clone()
    remove.mask(axes, dropped, masked.graph)
    remove.remove(axes, dropped)
    feed = open_samples(None, model, count=1, seed=0)[0]
    before, after = (open_session(m, Options(level="basic")).run(feed) for m in (model, masked))
    change = max(equality.difference(a, b) for a, b in zip(before, after, strict=True))
    return equality.prove(base, masked, [feed]), change


def reasons(axes: Axes, most: int = 3) -> Iterator[str]:
    """What freezes the most parameters, of axes that nothing can go from."""
    weight: Counter[str] = Counter()
    sizes = {v.name: v.const_value.size for v in axes.parameters}
    for frozen in axes.frozen():
        weight[frozen.reason] += sizes[frozen.tensor]
    for reason, count in weight.most_common(most):
        yield f"{count / max(1, sum(sizes.values())):.0%} {reason}"


def main(arguments: list[str]) -> None:
    """One line for each model named, or found in a folder, smallest first."""
    if arguments[:1] == ["--one"]:
        try:
            print(line(Path(arguments[1])))
        except OptimizeError as error:
            print(f"{type(error).__name__}: {error}")
        return
    found = [path for name in map(Path, arguments) for path in ([name] if name.is_file() else name.glob("*.onnx"))]
    for path in sorted(found, key=lambda path: path.stat().st_size):
        command = [sys.executable, "-m", "tests.prune.sweep", "--one", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
        print(f"{path.stem:28}{'' if done.returncode == 0 else f'FAULT {done.returncode} '}{''.join(last)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
