"""The trade-off of structured pruning on one model: share of the MACs, score with and without repair, speed.

``python -m tests.prune.tradeoff MODEL --data CALIBRATION --eval LABELLED.npz [--macs 0.9 0.8 ...] [--no-plain]``

The evaluation file has one input by name (first axis = samples) and `labels`; the score is the share whose largest
output is the label. Speed is measured in interleaved pairs against the original. Importance is measured once for all.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from optimizer.pipeline import common
from optimizer.pipeline.pruning import Calibration
from optimizer.pipeline.settle import carry_out
from optimizer.recipe import Prune, Run
from optimizer.runtime.session import open_session

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)


def top1(model: ir.Model, file: Path) -> float:
    """The share of the labelled samples that the model's first output gets right."""
    session = open_session(model)
    with np.load(file) as arrays:
        labels, (name, rows) = arrays["labels"], next((key, arrays[key]) for key in arrays.files if key != "labels")
    found = [int(session.run({name: rows[i : i + 1]})[0].argmax()) for i in range(len(rows))]
    return float(np.mean(np.array(found) == labels))


def lines(model: Path, data: str, labelled: Path, shares: list[float], plain: bool, seconds: float) -> Iterator[str]:
    """A Markdown table, row by row."""
    run = Run(data=data)
    about = common.subject(model, run)
    first = Prune(macs=0.5, measure=False)
    ways = [Calibration(about, first, run, common.Silent())]
    if plain:
        ways.append(Calibration(about, dataclasses.replace(first, repair=False), run, common.Silent()))
    yield "| MACs left | parameters left | speed-up (95%) | top-1 with repair |" + (" without |" if plain else "")
    yield "| ---: " * (4 + plain) + "|"
    yield f"| 100% | 100% | 1 | {top1(about.model, labelled):.4f} |" + (" |" if plain else "")
    for share in shares:
        steps = [dataclasses.replace(work.step, macs=share) for work in ways]
        models = [carry_out(work, step).pruned.removed for work, step in zip(ways, steps, strict=True)]
        base = common.base_result("prune", about, models[0], run)
        latency = common.race(about.model, models[:1], about.samples, run, seconds).latencies[0]
        low, high = latency.ci95
        scores = " | ".join(f"{top1(one, labelled):.4f}" for one in models)
        left = [f"{one.after / one.before:.0%}" for one in (base.macs, base.params)]
        yield f"| {left[0]} | {left[1]} | {latency.speedup:.2f} ({low:.2f} to {high:.2f}) | {scores} |"


def main() -> None:
    """Print the table as its rows become known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval", type=Path, required=True)
    parser.add_argument("--macs", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--no-plain", action="store_true")
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    for line in lines(given.model, given.data, given.eval, given.macs, not given.no_plain, given.seconds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
