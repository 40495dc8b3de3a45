"""What `quantize` begins with: a float model that computes in float32, samples to calibrate on, and how to time."""

from __future__ import annotations

import contextlib
import dataclasses
from contextlib import AbstractContextManager
from pathlib import Path

import onnx_ir as ir

from optimizer.data import augment
from optimizer.data.samples import Samples
from optimizer.errors import ConfigError, NothingToDo
from optimizer.model import cleanup, io, shapes
from optimizer.model.passes import functions
from optimizer.pipeline import common
from optimizer.pipeline.common import Subject
from optimizer.quantize import half
from optimizer.quantize.existing import integer_nodes, restorable, restore
from optimizer.recipe import Quantize
from optimizer.runtime.told import tell

AUGMENTED = 10
"""Samples to calibrate on for each that is given, where they are augmented."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """How to time: inside `alone`, and for so many times as long as usual."""

    alone: AbstractContextManager[None] = dataclasses.field(default_factory=contextlib.nullcontext)
    patience: float = 1.0


def float_model(source: Path) -> ir.Model:
    """The model at `source`. Raises `NothingToDo` where it is quantized already, in more than how weights are kept."""
    model = io.load(source)
    if (found := integer_nodes(model)) and not restorable(model):
        raise NothingToDo(f"{source} is quantized already ({found} integer nodes): give the float model it came from")
    return model


def in_float32(about: Subject) -> Subject:
    """`about` with a clean model that computes in float32 what the given one may hold in 16 bits, or in integers that
    are only how weights are kept."""
    kind, stored = half.kind(about.clean), integer_nodes(about.model)
    if kind is None and not stored:
        return about
    ready = about.model.clone()
    functions.inline(ready)
    tell(ready)
    shapes.infer(ready)
    restore(ready)
    first = [] if not stored else [f"restored {stored} weights that were kept as integers"]
    if kind is not None:
        half.widen(ready)
        first.append(f"{kind.name.lower()} computed in float32, as ONNX Runtime does on CPU")
    notes = cleanup.clean(ready)
    common.name_nodes(ready)
    shapes.infer(ready)
    return dataclasses.replace(about, clean=ready, notes=(*first, *notes))


def multiplied(samples: Samples, step: Quantize, seed: int) -> Samples:
    """The samples to calibrate on: with `augment` ten for each of the given ones, which come first."""
    if step.augment is None:
        return samples
    if samples.synthetic:
        raise ConfigError("--augment makes more of real samples: give --data")
    return augment.augmented(samples, step.augment, AUGMENTED, seed)
