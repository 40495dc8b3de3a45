"""Trials of the verdict on a machine that is kept busy: `python -m tests.bench.trials [--trials N] [--threads N] ...`.

Three kinds, all on models of about 1 ms with default settings, while another process keeps a core busy:

    same       a model against itself: at most 1 of 40 may be called faster or slower
    slower5    against one that does 5% more (210 equal layers to 200): at least 18 of 20 must be called slower
    slower2    against one that does 2% more: none may be called faster

Too slow for the test suite; the exit status is 1 if a kind does not hold, in proportion to the number of trials.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from optimizer.bench.compare import bench
from optimizer.model import io
from optimizer.recipe import Bench, Run
from tests.bench.models import chain

LAYERS = 200
WIDTH, WIDTH_OF_MANY = 64, 112
"""Of a layer, for one thread and for more, which share the work only if there is enough of it."""


class Kind(NamedTuple):
    """Layers of the candidate, how many trials, and whether the counted verdicts are good enough."""

    layers: int
    trials: int
    holds: Callable[[list[str]], bool]


KINDS = {
    "same": Kind(LAYERS, 40, lambda found: len(found) - found.count("inconclusive") <= max(1, len(found) // 40)),
    "slower5": Kind(LAYERS * 105 // 100, 20, lambda found: found.count("slower") >= 0.9 * len(found)),
    "slower2": Kind(LAYERS * 102 // 100, 20, lambda found: found.count("faster") == 0),
}


def trial(folder: Path, kind: Kind, threads: int, seed: int) -> str:
    """One benchmark with default settings; prints what it found and returns the verdict."""
    began = time.perf_counter()
    run = Run(threads=threads, seed=1000 * seed, samples=1)
    (found,) = bench(folder / f"{LAYERS}.onnx", [folder / f"{kind.layers}.onnx"], Bench(), run)
    assert found.latency_ms is not None
    latency, seconds = found.latency_ms, time.perf_counter() - began
    low, high = latency.ci95
    print(
        f"  {latency.verdict:13s} {latency.speedup:.4f} ({low:.4f} to {high:.4f}) floor {latency.noise_floor:.3f} "
        f"p50 {latency.before.p50:.2f} ms p99 {latency.before.p99:.2f} ms, {found.details['sittings']} sittings, "
        f"{seconds:.0f} s",
        flush=True,
    )
    return latency.verdict


@contextmanager
def busy() -> Iterator[None]:
    """Another process that keeps one core busy."""
    process = multiprocessing.Process(target=_spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _spin() -> None:
    while True:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=list(KINDS))
    parser.add_argument("--trials", type=int, help="trials of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    held = []
    with tempfile.TemporaryDirectory() as name, busy():
        folder, width = Path(name), WIDTH if chosen.threads == 1 else WIDTH_OF_MANY
        for layers in {LAYERS, *(kind.layers for kind in KINDS.values())}:
            io.save(chain(layers, width), folder / f"{layers}.onnx")
        for name in chosen.kinds:
            kind = KINDS[name]
            print(f"{name}, {chosen.threads} threads", flush=True)
            seeds = range(chosen.seed, chosen.seed + (chosen.trials or kind.trials))
            verdicts = [trial(folder, kind, chosen.threads, seed) for seed in seeds]
            held.append(kind.holds(verdicts))
            counts = ", ".join(f"{verdicts.count(each)} {each}" for each in ("faster", "slower", "inconclusive"))
            print(f"{name}: {counts}: {'holds' if held[-1] else 'DOES NOT HOLD'}", flush=True)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
