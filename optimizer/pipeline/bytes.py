"""`--inputs`: what the bytes mean that the caller will send, and the model and samples changed accordingly.

For each float input, the first of these that applies:
  1. it takes images (four axes) and `mean` and `std` are given, with the step or with the run's images: a byte b
     stands for ``(b * scale - mean) / std``;
  2. all samples are whole numbers in 0..255: b stands for itself;
  3. b stands for a number in the range of the samples.
Then the head of the graph is changed to take bytes (`quantize.head`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from optimizer.data.samples import Samples, coded
from optimizer.errors import ConfigError
from optimizer.model.ports import Array
from optimizer.pipeline.common import Subject
from optimizer.quantize import head, ports, qparams
from optimizer.quantize.head import Bytes, Head
from optimizer.recipe import Preprocess, Quantize, Run

_IMAGE = 4
_WHOLE = 1e-3
"""As near to a whole number as a decimal fraction of 255 that was meant to be one."""
_SLACK = 1.5
"""Steps by which samples may leave the range of the bytes."""


@dataclasses.dataclass(frozen=True)
class Taken:
    """The model that takes what `heads` make of its inputs; the subject's synthetic samples are made of bytes."""

    about: Subject
    model: ir.Model
    heads: Mapping[str, Head]

    def samples(self, samples: Samples) -> Samples:
        """`samples` as `model` takes them."""
        return coded(samples, self.heads)


def take(about: Subject, step: Quantize, run: Run) -> Taken:
    """Change a copy of the clean model. Raises `ConfigError` if `mean` and `std` do not fit the input or the data."""
    if not step.inputs:
        return Taken(about, about.clean, {})
    model, heads = about.clean.clone(), {}
    values = {value.name: value for value in model.graph.inputs}
    for name in ports.real(list(model.graph.inputs)):
        given = _prepared(step, run)
        image = given is not None and len(values[name].shape or ()) == _IMAGE
        code = _of_images(values[name], given) if given is not None and image else None
        heads[name] = _changed(model, name, code or _of_range(about.samples, name))
        if code is not None and not about.samples.synthetic:
            _check(about.samples, name, code)
    if about.samples.synthetic:
        made = coded(about.samples, {name: _Round(head.code) for name, head in heads.items()})
        about = dataclasses.replace(about, samples=made)
    notes = tuple(note for found in heads.values() for note in found.notes)
    return Taken(dataclasses.replace(about, notes=(*about.notes, *notes)), model, heads)


@dataclasses.dataclass(frozen=True)
class _Round:
    """Real values to those nearest that bytes stand for."""

    code: Bytes

    def encode(self, array: Array, /) -> Array:
        return self.code.decode(self.code.encode(array))


def _prepared(step: Quantize, run: Run) -> Preprocess | None:
    if step.mean:
        return dataclasses.replace(Preprocess(), mean=step.mean, std=step.std)
    plain = Preprocess()
    told = (run.images.scale, run.images.mean, run.images.std) != (plain.scale, plain.mean, plain.std)
    return run.images if told else None


def _of_images(value: ir.Value, how: Preprocess) -> Bytes:
    mean, std = (np.asarray(numbers, np.float64) for numbers in (how.mean, how.std))
    channels = None if value.shape is None else value.shape[1]
    if max(mean.size, std.size) > 1 and {mean.size, std.size} - {1, channels}:
        raise ConfigError(
            f"--mean and --std have {max(mean.size, std.size)} numbers, but axis 1 of input {value.name!r}, the "
            f"channels, has {channels}: give one number, or one per channel"
        )
    if np.ptp(mean) == 0 and np.ptp(std) == 0:
        mean, std = mean[:1], std[:1]
    zero = mean / how.scale
    return Bytes(how.scale / std, np.where(np.abs(zero - np.rint(zero)) < _WHOLE, np.rint(zero), zero))


def _of_range(samples: Samples, name: str) -> Bytes:
    low, high, whole = np.inf, -np.inf, True
    for feed in samples:
        low, high = min(low, float(feed[name].min())), max(high, float(feed[name].max()))
        whole = whole and bool((feed[name] == np.rint(feed[name])).all())
    if whole and low >= 0 and 1 < high <= 255:
        return Bytes(np.ones(1), np.zeros(1))
    found = qparams.from_range(low, high)
    return Bytes(np.array([found.scale]), np.array([float(found.zero_point)]))


def _check(samples: Samples, name: str, code: Bytes) -> None:
    for feed in samples:
        x = feed[name]
        if (np.abs(code.decode(code.encode(x)) - x) > _SLACK * code.scale.max()).any():
            raise ConfigError(
                f"the samples of input {name!r} reach from {x.min():.3g} to {x.max():.3g}, which no bytes give with "
                "this mean and std: give those that the data was prepared with"
            )


def _changed(model: ir.Model, name: str, code: Bytes) -> Head:
    found = head.absorb(model, name, code)
    if found is not None:
        return found
    zero = float(code.zero[0])
    if code.scale.size == code.zero.size == 1 and zero == int(zero) and 0 <= zero <= 255:
        return Head(code, qparams.QParams(float(np.float32(code.scale[0])), int(zero)), ())
    return head.spell_out(model, name, code)
