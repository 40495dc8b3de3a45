"""What all commands share: a model is read, rewritten, compared with what it was, and only then written.

`Subject` is the model as the user gave it: loaded safely, with its samples. `judge` times a candidate against it in
pairs and compares the answers on the same samples. `write` puts the result in place with its provenance.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from optimizer.calibrate import sizes as sizes_
from optimizer.calibrate.metrics import compare_outputs
from optimizer.data.convert import codes
from optimizer.data.samples import Samples, coded
from optimizer.data.spec import open_samples
from optimizer.errors import BoundMissed, DataError
from optimizer.model import cleanup, io, shapes
from optimizer.model.cost import Cost
from optimizer.recipe import Recipe, Run, Step, text
from optimizer.report.records import Accuracy, Change, GateResult, Latency, Result
from optimizer.runtime import machine, stats, timing
from optimizer.runtime.session import Options, open_session
from optimizer.runtime.told import tell

_NO_DATA = (
    "no --data given: ranges and accuracy come from synthetic inputs and may be far off on real ones; "
    "give --data, some 50 real samples, before you rely on the result"
)
HELD_BACK = 0.25
"""Share of real samples that are judged on only."""
_LEAST_BLOCKS = 6
"""What is decided by times is decided by so many rounds of a slow model, however long they take."""
TIMED_SAMPLES = 4
"""Samples that timing cycles through: enough to vary data-dependent work, few enough to stay in memory."""


class Missed(BoundMissed):
    """A bound or gate was missed; `result` is what there is to report: how close the best came, as far as is known."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class Progress(Protocol):
    """Something to show work on: `stage` begins a named piece and returns what to call after each of its steps."""

    def stage(self, name: str, steps: int | None = None) -> Callable[[], None]: ...


class Silent:
    """Progress that nobody sees."""

    def stage(self, name: str, steps: int | None = None) -> Callable[[], None]:
        return lambda: None


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to work on. `model` is what the file holds; `clean` the same function, ready to be rewritten."""

    path: Path
    model: ir.Model
    clean: ir.Model
    samples: Samples
    notes: tuple[str, ...]
    described: bool
    """Whether the file tells the shapes of inner values, so that the result should too."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must know about the data."""
        if not self.samples.synthetic:
            return self.samples.notes
        return (*self.samples.notes, _NO_DATA)


def subject(path: Path | str, run: Run) -> Subject:
    """Read the model at `path`, clean a copy of it, and open its samples. Raises `UserError`."""
    model = io.load(path)
    return prepare(Path(path), model, run)


def prepare(path: Path, model: ir.Model, run: Run) -> Subject:
    """`subject` for a model that is loaded already."""
    session = open_session(model, Options(threads=run.threads))

    samples = open_samples(
        run.data, model, count=run.samples, seed=run.seed, images=run.images, dims=dict(run.dims), runs=session.accepts
    ).seen(run.held_back, run.seed)
    if not len(samples):
        raise DataError(f"{samples.source}: no samples in it; give at least one")
    session.run(samples[0])
    ready = model.clone()
    tell(ready)
    notes = cleanup.clean(ready)
    name_nodes(ready)
    shapes.infer(ready)
    return Subject(path, model, ready, samples, tuple(notes), shapes.described(model))


def split(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Samples to calibrate on and to judge on; where they are synthetic or very few, one set serves both."""
    if samples.synthetic or len(samples) < 4:
        return samples, samples
    judging, calibration = samples.split(HELD_BACK, seed)
    return calibration, judging


def name_nodes(model: ir.Model) -> None:
    """Give every node, subgraphs included, a name of its own, since decisions are kept by name."""
    taken: set[str] = set()
    for number, node in enumerate(ir.traversal.RecursiveGraphIterator(model.graph)):
        name = node.name or f"{node.op_type}_{number}"
        while name in taken:
            name = f"{name}_{number}"
        node.name = name
        taken.add(name)


@dataclasses.dataclass(frozen=True)
class Timed:
    """Speed-ups of several candidates over one baseline, from one race."""

    latencies: tuple[Latency, ...]


def race(baseline: ir.Model, candidates: Sequence[ir.Model], samples: Samples, run: Run, seconds: float) -> Timed:
    """Time `candidates` against `baseline` in interleaved pairs, all on the same few samples."""
    sessions = [open_session(model, Options(threads=run.threads)) for model in (baseline, *candidates)]
    few = samples.take(TIMED_SAMPLES)
    feeds = [list(coded(few, codes(model))) for model in (baseline, *candidates)]
    times = timing.compare(sessions, feeds, seconds=seconds, seed=run.seed, least=_LEAST_BLOCKS)
    return Timed(tuple(_latency(times, index) for index in range(1, len(sessions))))


def _latency(times: timing.PairedTimes, index: int) -> Latency:
    found = times.speedup(index)
    return Latency(
        before=times.quantiles(0),
        after=times.quantiles(index),
        speedup=found.speedup,
        ci95=(found.lo, found.hi),
        verdict=stats.verdict(found.lo, found.hi),
        pairs=times.rounds,
    )


def accuracy(
    baseline: ir.Model,
    candidate: ir.Model,
    samples: Samples,
    run: Run,
    metric: str | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Accuracy:
    """Compare the answers of two models with the same inputs."""
    options = Options(threads=run.threads)
    before, after = open_session(baseline, options), open_session(candidate, options)
    return compare_outputs(before, after, samples, coded(samples, codes(candidate)), metric, tick=tick)


def write(
    result: Result, candidate: ir.Model, about: Subject, target: Path, run: Run, step: Step, *, force: bool
) -> Result:
    """Write `candidate` with its provenance to `target`; `result` completed with path and size."""
    stamp(candidate, about.path, run, (step,), result)
    if not about.described:
        shapes.forget(candidate)
    size = io.save(candidate, target, force=force)
    return dataclasses.replace(result, output=str(target), size_bytes=Change(result.size_bytes.before, size))


def stamp(candidate: ir.Model, source: Path, run: Run, recipe: Recipe, result: Result) -> None:
    """Provenance in the model's metadata: no paths, no times, so that equal runs write equal bytes."""
    provenance = {
        "optimize.version": version("optimize-onnx"),
        "optimize.command": result.command,
        "optimize.recipe": text(recipe),
        "optimize.seed": str(run.seed),
        "optimize.source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "optimize.data": "synthetic" if run.data is None else "given",
    }
    candidate.metadata_props.update(provenance)


def base_result(command: str, about: Subject, candidate: ir.Model, run: Run) -> Result:
    """A result with what does not need measuring: sizes, parameters, MACs, machine."""
    sizes = {name: array.shape for name, array in about.samples[0].items()}
    dims = symbols(about.model, sizes)
    (coded_feed,) = coded(about.samples.take(1), codes(candidate))
    before = sizes_.count(about.clean, about.samples[0], dims, threads=run.threads)
    after = sizes_.count(candidate, coded_feed, dims, threads=run.threads)
    return Result(
        command=command,
        input=str(about.path),
        output=None,
        size_bytes=Change(io.size(about.path), after.bytes),
        params=Change(before.params, after.params),
        macs=Change(before.macs, after.macs),
        machine=machine.describe(run.threads),
        steps=about.notes,
        warnings=(*about.warnings, *_uncounted(before, after)),
    )


def missed(result: Result, condition: str, message: str) -> Missed:
    """The exception for a bound that `result` misses; `condition` is the bound as the user gave it."""
    return Missed(message, dataclasses.replace(result, gates=(GateResult(condition, "missed", message),)))


@contextmanager
def reporting(command: str, about: Subject, run: Run, condition: str) -> Iterator[None]:
    """Whatever bound is missed inside carries a result; without a candidate, it shows the original unchanged."""
    try:
        yield
    except Missed:
        raise
    except BoundMissed as error:
        raise missed(base_result(command, about, about.model, run), condition, str(error)) from error


def _uncounted(*costs: Cost) -> list[str]:
    """What the user must know about a figure that leaves nodes out."""
    missing = max(len(found.unknown) for found in costs)
    return [f"MACs leave out {missing} nodes whose sizes are only known inside If or Loop"] if missing else []


def symbols(model: ir.Model, sizes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """The sizes that a feed gives to the model's symbolic dimensions."""
    found: dict[str, int] = {}
    for value in model.graph.inputs:
        for dim, size in zip(value.shape or (), sizes.get(value.name or "", ()), strict=False):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                found[dim.value] = size
    return found


def default_output(path: Path, suffix: str) -> Path:
    """`NAME.SUFFIX.onnx` beside the input."""
    return path.with_name(f"{path.name.removesuffix('.onnx')}.{suffix}.onnx")
