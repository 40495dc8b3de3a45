"""The models of a benchmark, each with the same samples as it takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from optimizer.calibrate import sizes
from optimizer.data import fit
from optimizer.data.samples import Samples
from optimizer.data.spec import open_samples
from optimizer.errors import ConfigError, DataError
from optimizer.model import io, ports
from optimizer.model.cost import Cost
from optimizer.model.ports import Array, Feed
from optimizer.recipe import Run
from optimizer.runtime.session import Options, Session, open_session

TIMED_SAMPLES = 16
TIMED_BYTES = 256 * 2**20
"""Timing cycles through the first so many samples, or as many as fit into so many bytes, but one at least."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model file, open, with its samples and what it costs."""

    path: Path
    model: ir.Model
    session: Session
    samples: Samples
    size: int
    cost: Cost

    def timed(self, batch: int) -> list[Feed]:
        """The feeds to time the model on, each of `batch` samples. Raises `ConfigError` if it takes no batches."""
        if batch > 1 and not self.samples.joinable:
            raise ConfigError(f"{self.path}: the model's batch size is fixed; leave out --batch {batch}")
        sample = sum(array.nbytes for array in self.samples[0].values())
        count = min(TIMED_SAMPLES, len(self.samples), max(1, TIMED_BYTES // max(1, sample * batch)))
        if batch == 1:
            return list(self.samples.take(count))
        places = [position % len(self.samples) for position in range(count * batch)]
        return list(self.samples.subset(places).batches(batch))


def open_all(paths: Sequence[Path], run: Run) -> list[Subject]:
    """Open every model; the first is the baseline, and the others take what it takes. Raises `UserError`."""
    found: list[Subject] = []
    for path in paths:
        model = io.load(path)
        session = open_session(path, Options(threads=run.threads))
        samples = _samples(model, session, run, found[0].samples if found else None)
        if not len(samples):
            raise DataError(f"{samples.source}: no samples in it; give at least one")
        session.run(samples[0])
        cost = sizes.count(model, samples[0], dims(model, samples[0]), threads=run.threads)
        found.append(Subject(path, model, session, samples, io.size(path), cost))
    return found


def _samples(model: ir.Model, session: Session, run: Run, first: Samples | None) -> Samples:
    if first is not None and first.synthetic:
        return dataclasses.replace(first, reader=_Converted(first, fit.Target.of(model)), indices=range(len(first)))

    return open_samples(
        run.data, model, count=run.samples, seed=run.seed, images=run.images, dims=dict(run.dims), runs=session.accepts
    )


@dataclasses.dataclass(frozen=True)
class _Converted:
    """Another model's synthetic samples, as this model takes them: the sizes of open axes stay the same."""

    samples: Samples
    target: fit.Target

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> dict[str, Array]:
        return fit.one(self.target, self.samples[index])


def dims(model: ir.Model, feed: Feed) -> dict[str, int]:
    """The sizes that a feed gives to the model's symbolic dimensions."""
    return {
        dim: size
        for port in ports.inputs(model)
        for dim, size in zip(port.shape, feed[port.name].shape, strict=False)
        if isinstance(dim, str)
    }
