"""Plausible sizes for the open axes of a model's inputs, to be tried until the model runs.

Every open axis plays a role, told from its name, its place and the graph; axes of the same role vary together. The
options of a role come in order of plausibility, and assignments come in order of the sum of their options' ranks, so
that one thing is changed before two are.

============  ========================================================  =====================================
role          told by                                                   options
============  ========================================================  =====================================
given         `dims`                                                    that
prescribed    the graph (`hints`)                                       that
derived       a name such as "past + seq", "total_sequence_length"      the sum
batch         axis 0, or a name such as "batch"                         1, 2
spatial       rank 4 or 5 with 1, 3 or 4 channels, or two open          square image sizes and text lines, by
              axes beside a fixed one; names such as "height"           the number of channels
past          a name such as "past_sequence_length"                     16, 0, 1
signal        the last axis of a float input of rank 1 to 3             2048, 512, 16000, ...
sequence      a name such as "seq"; any other axis of ids or features   16, 32, 64, ...
channel       axis 1 of an image where nothing prescribes it            3, 1
state         an axis in the middle of a state                          1, 16
empty         a recorded size of 0, which ONNX Runtime takes literally  0, 1, 16
============  ========================================================  =====================================
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from optimizer.data import axes, demands, hints
from optimizer.data.wiring import Wiring
from optimizer.errors import ConfigError
from optimizer.model.ports import Port, inputs

MAX_CANDIDATES = 100

_BATCH = re.compile(r"batch|^n$|^b$|^bs$|num_samples|^bsz", re.IGNORECASE)
_PAST = re.compile(r"past|cache", re.IGNORECASE)
_TOTAL = re.compile(r"total", re.IGNORECASE)
_SEQUENCE = re.compile(r"seq|len|token|time|frame|step|word|char|text", re.IGNORECASE)
_SPATIAL = re.compile(r"height|width|^h$|^w$|^rows?$|^cols?$|image_size|img", re.IGNORECASE)
_NAMES = {"batch": _BATCH, "past": _PAST, "spatial": _SPATIAL, "sequence": _SEQUENCE}
_WIDTH = re.compile(r"width|^w$|^cols?$", re.IGNORECASE)
_STATE = re.compile(r"(^|[_.\-/])(h|c|hn|cn|h0|c0|state|hidden|cell|cache|past)\d*([_.\-/]|$)", re.IGNORECASE)
_CHANNELS = (1, 3, 4)
_SUM = re.compile(r"^\s*[\w.]+(\s*\+\s*[\w.]+)+\s*$")

_SQUARES = (224, 256, 640, 320, 299, 512, 128, 64, 32, 384, 416, 96, 28, 1024, 16)
_IMAGES = ((224, 224), (48, 320), (32, 320), (32, 100), *((size, size) for size in _SQUARES[1:]), (480, 640))
_GRAY = ((28, 28), (32, 32), (224, 224), (64, 64), (32, 100), (48, 320), (128, 128), (256, 256), (512, 512))
_LATENT = ((64, 64), (32, 32), (128, 128), (224, 224), (256, 256), (96, 96), (512, 512))
"""Four channels are more often the latent image of a diffusion model, at an eighth of its size, than RGBA."""

_OPTIONS: Mapping[str, Sequence[int]] = {
    "batch": (1, 2),
    "past": (16, 0, 1),
    "signal": (2048, 512, 16000, 256, 1024, 4096, 128, 64, 16, 1),
    "sequence": (16, 32, 64, 128, 1, 8, 100, 256, 512, 77, 2, 1024, 3000),
    "channel": (3, 1),
    "state": (1, 16),
    "empty": (0, 1, 16),
}


@dataclasses.dataclass(frozen=True)
class Axis:
    """One place where a symbol stands."""

    port: Port
    axis: int
    state: bool

    @property
    def dims(self) -> tuple[int | str | None, ...]:
        return self.port.shape


def open_axes(model: ir.Model) -> dict[str, list[Axis]]:
    """Each symbol of the model's inputs with the places where it stands."""
    wiring = Wiring(model)
    values = {value.name: value for value in model.graph.inputs}
    found: dict[str, list[Axis]] = {}
    for port in inputs(model):
        state = is_state(port, demands.of(values[port.name], wiring))
        for axis, dim in enumerate(port.shape):
            if axes.is_open(dim):
                found.setdefault(axes.symbol(port, axis), []).append(Axis(port, axis, state))
    return found


def is_state(port: Port, found: demands.Demands) -> bool:
    """Whether an input carries a network's state from step to step."""
    return port.dtype.kind == "f" and (found.state or _STATE.search(port.name) is not None)


def candidates(model: ir.Model, dims: Mapping[str, int] | None = None) -> Iterator[dict[str, int]]:
    """Assignments of a size to every open axis of the inputs, the most plausible first.

    `model` should have its shapes inferred. `dims` wins over every guess. Raises `ConfigError` for a name in `dims`
    that is no symbol of the inputs.
    """
    places = open_axes(model)
    given = dict(dims or {})
    if unknown := [name for name in given if name not in places]:
        raise ConfigError(f"--dim {unknown[0]}: the model's inputs have {', '.join(places) or 'no open dimension'}")
    fixed = {**_prescribed(model), **given}
    roles = {name: _role(name, where) for name, where in places.items()}
    free = {name: role for name, role in roles.items() if name not in fixed}
    derived = [name for name in free if free[name] == "derived"]
    for choice in _choices(free, places, fixed):
        sizes = {**choice, **fixed}
        for name in derived:
            sizes[name] = _sum(name, sizes, roles)
        yield {name: sizes[name] for name in places}


def _prescribed(model: ir.Model) -> dict[str, int]:
    values = {value.name: value for value in model.graph.inputs}
    symbols = {values[port.name]: _symbols(port) for port in inputs(model)}
    return hints.required(symbols, Wiring(model))


def _symbols(port: Port) -> hints.Axes:
    return tuple(axes.symbol(port, axis) if axes.is_open(dim) else None for axis, dim in enumerate(port.shape))


def _role(name: str, places: Sequence[Axis]) -> str:
    if _SUM.match(name) or _TOTAL.search(name):
        return "derived"
    found = [_place(place) for place in places]
    named = None if name.endswith("]") else next((role for role, told in _NAMES.items() if told.search(name)), None)
    if named and not (named == "sequence" and set(found) == {"signal"}):
        return named
    return next((role for role in ("batch", "spatial", "channel") if role in found), found[0])


def _place(place: Axis) -> str:
    """The role of an axis that its name does not tell."""
    dims, axis, rank = place.dims, place.axis, len(place.dims)
    if dims[axis] == 0:
        return "empty"
    if place.state:
        return "state"
    if axis == 0 and (rank > 1 or place.port.dtype.kind != "f"):
        return "batch"
    if rank in (4, 5):
        return _image_place(dims, axis)
    if place.port.dtype.kind == "f" and axis == rank - 1 and not (rank == 3 and dims[1] not in _CHANNELS):
        return "signal"
    return "sequence"


def _image_place(dims: Sequence[int | str | None], axis: int) -> str:
    last = dims[-1] in _CHANNELS and axes.is_open(dims[-2])
    spatial = (len(dims) - 3, len(dims) - 2) if last else (len(dims) - 2, len(dims) - 1)
    if axis in spatial:
        return "spatial" if last or axes.is_open(dims[-1]) or dims[1] in _CHANNELS else "sequence"
    return "channel" if axis == 1 and not last else "sequence"


def height_and_width(shape: Sequence[int]) -> tuple[int, int]:
    """The spatial sizes of an image batch of rank 4, NCHW or NHWC."""
    last = shape[-1] in _CHANNELS and shape[1] not in _CHANNELS
    return (shape[1], shape[2]) if last else (shape[2], shape[3])


def _choices(
    roles: Mapping[str, str], places: Mapping[str, list[Axis]], fixed: Mapping[str, int]
) -> Iterator[dict[str, int]]:
    """Assignments to all but the derived symbols; those of one role move together."""
    groups = [role for role in dict.fromkeys(roles.values()) if role != "derived"]
    members = {role: [name for name in roles if roles[name] == role] for role in groups}
    options = [
        _images(members[role], places, fixed) if role == "spatial" else _same(members[role], _OPTIONS[role])
        for role in groups
    ]
    ranks = itertools.product(*(range(len(choice)) for choice in options))
    for rank in itertools.islice(sorted(ranks, key=sum), MAX_CANDIDATES):
        merged: dict[str, int] = {}
        for choice, index in zip(options, rank, strict=True):
            merged.update(choice[index])
        yield merged


def _same(names: Sequence[str], options: Sequence[int]) -> list[dict[str, int]]:
    return [dict.fromkeys(names, size) for size in options]


def _images(names: Sequence[str], places: Mapping[str, list[Axis]], fixed: Mapping[str, int]) -> list[dict[str, int]]:
    """Heights and widths together; where one of them is fixed the sizes that go with it come first."""
    first = places[names[0]][0]
    known = {size for place in places[names[0]] for size in _beside(place, fixed)}
    channels = first.dims[1 if first.axis > 1 else -1]
    pairs = {1: _GRAY, 4: _LATENT}.get(channels if isinstance(channels, int) else 0, _IMAGES)
    if known:
        pairs = (*(pair for pair in pairs if known & set(pair)), *((size, size) for size in sorted(known)), *pairs)
    return [{name: pair[_is_width(places[name][0], name)] for name in names} for pair in dict.fromkeys(pairs)]


def _beside(place: Axis, fixed: Mapping[str, int]) -> Iterator[int]:
    """The fixed sizes of the other spatial axis."""
    for axis in (place.axis - 1, place.axis + 1):
        if not 1 <= axis < len(place.dims):
            continue
        size = place.dims[axis] if not axes.is_open(place.dims[axis]) else fixed.get(axes.symbol(place.port, axis))
        if isinstance(size, int) and size > max(_CHANNELS):
            yield size


def _is_width(place: Axis, name: str) -> bool:
    """Whether the axis is the second of the two spatial axes."""
    if _WIDTH.search(name):
        return True
    channels_last = place.dims[-1] in _CHANNELS and len(place.dims) > 3
    return place.axis == len(place.dims) - (2 if channels_last else 1)


def _sum(name: str, sizes: Mapping[str, int], roles: Mapping[str, str]) -> int:
    if _SUM.match(name):
        terms = [term.strip() for term in name.split("+")]
        return sum(int(term) if term.isdigit() else sizes.get(term, 1) for term in terms)
    sequences = [sizes[other] for other in sizes if roles.get(other) == "sequence"]
    pasts = [sizes[other] for other in sizes if roles.get(other) == "past"]
    return max(sequences, default=16 if not pasts else 0) + max(pasts, default=0)
