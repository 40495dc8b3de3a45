"""A search against what one would do by hand, on samples that none of them saw.

``python -m tests.tune.compare MODEL --data SAMPLES --eval LABELLED --to FOLDER [--minutes 27] [--workers 2]``

writes into FOLDER what `optimize tune` finds in that time, what `optimize quantize` gives by default, and what six
recipes give that people would try (`--by-hand` makes these alone, beforehand; what is there is not made again). Then
all are timed in one interleaved run and judged on the evaluation samples. Exit status 1 if the found model misses the
bound there, or is slower than the fastest of the others that keep to it (by the whole 95% interval of that pair).
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from optimizer.data.spec import open_samples
from optimizer.errors import OptimizeError
from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline import run as pipeline
from optimizer.recipe import Prune, Quantize, Recipe, Run, share
from optimizer.report.records import Accuracy
from optimizer.runtime import timing
from optimizer.runtime.session import open_session

FOUND, USUAL = "tune", "quantize"
BY_HAND: dict[str, Recipe] = {
    "quantize, placed by the table": (Quantize(mode="static", measure=False),),
    "quantize --everywhere": (Quantize(mode="static", everywhere=True, measure=False),),
    "quantize --everywhere, min-max, no repair": (
        Quantize(mode="static", everywhere=True, calibration="minmax", recover="none", max_drop=1.0, measure=False),
    ),
    "quantize --per-tensor": (Quantize(mode="static", per_tensor=True, measure=False),),
    "prune --macs 0.9, quantize": (Prune(macs=0.9, measure=False), Quantize(mode="static", measure=False)),
    "prune --macs 0.75, quantize": (Prune(macs=0.75, measure=False), Quantize(mode="static", measure=False)),
}


@dataclasses.dataclass(frozen=True)
class Given:
    """What is compared."""

    model: Path
    data: str
    evaluation: str
    folder: Path
    max_drop: str
    minutes: float
    workers: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Line:
    """One model: how it answers on the evaluation samples."""

    name: str
    path: Path
    accuracy: Accuracy
    holds: bool


def make_by_hand(given: Given) -> None:
    """The models of the six recipes."""
    for number, (name, recipe) in enumerate(BY_HAND.items(), 1):
        target = place(given, number)
        if target.exists():
            continue
        began = time.monotonic()
        try:
            pipeline.run(recipe, given.model, Run(data=given.data), output=target)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        except OptimizeError as error:
            print(f"{name}: {error}", flush=True)


def place(given: Given, number: int) -> Path:
    return given.folder / f"by-hand-{number}.onnx"


def command(given: Given, name: str, *arguments: object) -> Path:
    """Run `optimize` on the model; the file that it writes."""
    target = given.folder / f"{name}.onnx"
    if not target.exists():
        typed = [name, given.model, "--data", given.data, "-o", target, *arguments]
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "optimizer", *map(str, typed)], check=False)
        print(f"optimize {name}: {time.monotonic() - began:.0f} s in all", flush=True)
    return target


def judged(given: Given, models: dict[str, Path]) -> Iterator[Line]:
    """Every model that there is, on the evaluation samples."""
    original = io.load(given.model)
    samples = open_samples(given.evaluation, original)
    for name, path in models.items():
        if path.exists():
            found = common.accuracy(original, io.load(path), samples, Run())
            yield Line(name, path, found, found.drop <= share(given.max_drop) * abs(found.before))


def raced(given: Given, lines: Sequence[Line]) -> timing.PairedTimes:
    """All of them and the original, which comes first, in one interleaved run."""
    original = io.load(given.model)
    sessions = [open_session(model) for model in (original, *(io.load(line.path) for line in lines))]
    feeds = list(open_samples(given.evaluation, original).take(common.TIMED_SAMPLES))
    seconds = given.seconds * len(sessions)
    return timing.compare(sessions, [feeds] * len(sessions), seconds=seconds, target_halfwidth=0.002)


def table(lines: Sequence[Line], times: timing.PairedTimes) -> Iterator[str]:
    """Markdown, the fastest first."""
    metric = lines[0].accuracy.metric
    yield f"| model | speed-up (95%) | {metric} (original {lines[0].accuracy.before:.4f}) | bound | size |"
    yield "|:--|--:|--:|:--|--:|"
    for number in sorted(range(len(lines)), key=lambda number: -times.speedup(number + 1).speedup):
        line, fast = lines[number], times.speedup(number + 1)
        size = f"{io.size(line.path) / 1e6:.2f} MB"
        word = "held" if line.holds else "missed"
        yield (
            f"| {line.name} | {fast.speedup:.3f}x ({fast.lo:.3f} to {fast.hi:.3f}) "
            f"| {line.accuracy.after:.4f} | {word} | {size} |"
        )


def verdict(lines: Sequence[Line], times: timing.PairedTimes) -> tuple[bool, str]:
    """Whether the found model is good enough, and why."""
    found = next((number for number, line in enumerate(lines, 1) if line.name == FOUND), None)
    if found is None:
        return False, "the search found nothing"
    if not lines[found - 1].holds:
        return False, "the found model misses the bound on the evaluation samples"
    others = [number for number, line in enumerate(lines, 1) if line.holds and number != found]
    if not others:
        return True, "no other model keeps to the bound"
    best = max(others, key=lambda number: times.speedup(number).speedup)
    pair = times.speedup(found, best)
    text = (
        f"the found model is {pair.speedup:.3f}x as fast as the best other within the bound, {lines[best - 1].name!r}"
    )
    return pair.hi >= 1, f"{text} (95% {pair.lo:.3f} to {pair.hi:.3f})"


def main() -> None:
    """Make, time, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval", dest="evaluation", required=True)
    parser.add_argument("--to", dest="folder", type=Path, required=True)
    parser.add_argument("--max-drop", default="1%")
    parser.add_argument("--minutes", type=float, default=27.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="of timing for each model")
    parser.add_argument("--by-hand", action="store_true")
    options = vars(parser.parse_args())
    by_hand = options.pop("by_hand")
    given = Given(**options)
    given.folder.mkdir(parents=True, exist_ok=True)
    make_by_hand(given)
    if by_hand:
        return
    models = {
        FOUND: command(
            given, FOUND, "--minutes", given.minutes, "--workers", given.workers, "--max-drop", given.max_drop
        ),
        USUAL: command(given, USUAL),
        **{name: place(given, number) for number, name in enumerate(BY_HAND, 1)},
    }
    lines = list(judged(given, models))
    times = raced(given, lines)
    print("\n".join(table(lines, times)))
    good, why = verdict(lines, times)
    print(why)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
