"""Augmentation: new samples out of given ones, for training and for calibration. `strengths` has the grammar.

What an input is follows from its shape: real with four axes is an image (channels last where only the last axis has 1,
3 or 4 entries), real with two or three axes a sequence whose time is the longer axis after the batch, whole-numbered
with two axes and more than two different values a row of tokens (0 is taken for padding and stays). Other inputs are
left alone. "Deviation" is the standard deviation of the array at hand.

Everything follows from the random generator that is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from optimizer.data import convert, strengths
from optimizer.data.samples import Reader, Samples
from optimizer.data.strengths import AUTO, SUITS, Kind, Range
from optimizer.data.warp import Map, Read, bilinear
from optimizer.errors import ConfigError
from optimizer.model.ports import Array, Feed

_CHANNELS = (1, 3, 4)
BLENDING = ("mixup", "cutmix")

FEW = 5000
"""With more samples, `auto` does nothing."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What `--augment` asks for. `flips` holds the axes; `strengths` a range per name."""

    flips: str
    strengths: Mapping[str, Range]
    read: Read = bilinear
    """How turned images are interpolated: a faster way may be put in."""

    def apply(self, feed: Feed, random: np.random.Generator) -> dict[str, Array]:
        """One sample, changed. Shapes and dtypes stay."""
        return {name: self._changed(array, random) for name, array in feed.items()}

    def blend(self, feed: Feed, random: np.random.Generator) -> tuple[dict[str, Array], Array, Array]:
        """Mix-up and cut-mix of a batch: the feed, each row's partner, and the weight of the row itself (1 where it is
        not mixed)."""
        rows = len(next(iter(feed.values()))) if feed else 0
        own = np.ones(rows, np.float32)
        if not self.blends or rows < 2:
            return dict(feed), np.arange(rows), own
        partners = random.permutation(rows)
        cut = random.random(rows) < self.strengths.get("cutmix", (0.0, 0.0))[0]
        boxes = _boxes(random, rows)
        if "mixup" in self.strengths:
            alpha = self.strengths["mixup"][0]
            own = np.maximum(weights := random.beta(alpha, alpha, rows), 1 - weights).astype(np.float32)
        mixed = {name: _blended(array, partners, own, boxes, cut) for name, array in feed.items()}
        sides = boxes[:, :, 1] - boxes[:, :, 0]
        flat = any(kind_of(array) == "image" for array in feed.values())
        return mixed, partners, np.where(cut, 1 - (sides[:, 0] * sides[:, 1] if flat else sides[:, 0]), own)

    @property
    def blends(self) -> bool:
        """Whether samples of a batch are mixed with each other."""
        return bool({"mixup", "cutmix"} & set(self.strengths))

    def single(self) -> Augmentation:
        """The part that changes each sample by itself."""
        return dataclasses.replace(self, strengths={n: s for n, s in self.strengths.items() if n not in BLENDING})

    def unsuited(self, feed: Feed) -> list[str]:
        """The names that no input of this feed is of a kind for."""
        kinds = {kind_of(array) for array in feed.values()}
        return [name for name in (*(["flip"] if self.flips else []), *self.strengths) if not kinds & set(SUITS[name])]

    def _changed(self, array: Array, random: np.random.Generator) -> Array:
        found = {"image": self._image, "sequence": self._sequence, "tokens": self._tokens}.get(kind_of(array))
        return array if found is None else found(array, random)

    def _image(self, array: Array, random: np.random.Generator) -> Array:
        last = _channels_last(array)
        rows = np.moveaxis(array, -1, 1) if last else array
        changed = np.stack([self._one_image(row, random) for row in rows])
        return _as(np.moveaxis(changed, 1, -1) if last else changed, array)

    def _one_image(self, image: Array, random: np.random.Generator) -> Array:
        where = self._map(random)
        moved = image.astype(np.float32) if where.identity else where.apply(image, self.read)
        if "colour" in self.strengths:
            gain, more = random.uniform(*self.strengths["colour"], (2, len(moved), 1, 1)).astype(np.float32)
            moved = moved * (1 + gain) + more * moved.std()
        if "brightness" in self.strengths:
            moved = moved + random.uniform(*self.strengths["brightness"]) * moved.std()
        if "mask" in self.strengths:
            moved = _masked(moved, (1, 2), self.strengths["mask"], random)
        return self._noisy(moved, random)

    def _map(self, random: np.random.Generator) -> Map:
        def draw(name: str, otherwise: float) -> float:
            return float(random.uniform(*self.strengths[name])) if name in self.strengths else otherwise

        area = draw("crop", 1.0)
        room = (1 - area**0.5) / 2
        place = random.uniform(-room, room, 2) if room > 0 else (0.0, 0.0)
        return Map(
            angle=draw("rotate", 0.0),
            zoom=draw("scale", 1.0) / area**0.5,
            shift_x=draw("shift", 0.0) + float(place[0]),
            shift_y=draw("shift", 0.0) + float(place[1]),
            shear=draw("shear", 0.0),
            mirror_x="h" in self.flips and bool(random.random() < 0.5),
            mirror_y="v" in self.flips and bool(random.random() < 0.5),
        )

    def _sequence(self, array: Array, random: np.random.Generator) -> Array:
        time = _time_axis(array)
        rows = []
        for row in array.astype(np.float32):
            if "shift" in self.strengths:
                row = _delayed(row, time - 1, round(random.uniform(*self.strengths["shift"]) * row.shape[time - 1]))
            if "mask" in self.strengths:
                row = _masked(row, (time - 1,), self.strengths["mask"], random)
            rows.append(self._noisy(row, random))
        return _as(np.stack(rows), array)

    def _noisy(self, array: Array, random: np.random.Generator) -> Array:
        if "noise" not in self.strengths:
            return array
        amount = random.uniform(*self.strengths["noise"]) * array.std()
        noisy: Array = array + amount * random.standard_normal(array.shape, dtype=np.float32)
        return noisy

    def _tokens(self, array: Array, random: np.random.Generator) -> Array:
        if "tokens" not in self.strengths:
            return array
        share, identity = self.strengths["tokens"]
        live = array[array != 0]
        others = random.choice(live, array.shape) if identity < 0 else np.full_like(array, int(identity))
        chosen = (random.random(array.shape) < share) & (array != 0)
        replaced: Array = np.where(chosen, others, array).astype(array.dtype)
        return replaced


def parse(text: str) -> Augmentation:
    """`flip,rotate=10,scale=0.9:1.1` as an `Augmentation`. Raises `ConfigError`."""
    return Augmentation(*strengths.parse(text))


def choose(text: str, samples: Samples) -> Augmentation | None:
    """What `text` asks for on these samples; None for `none`. Raises `ConfigError` where a part suits no input."""
    if text == "none":
        return None
    if text == "auto":
        kinds = [] if len(samples) > FEW else sorted({kind_of(array) for array in samples[0].values()} & set(AUTO))
        return parse(",".join(AUTO[kind] for kind in kinds)) if kinds else None
    how = parse(text)
    refuse_unsuited(how, samples)
    return how


def kind_of(array: Array) -> Kind:
    """What an input with values like `array` is taken for."""
    if convert.is_float(array.dtype) or (array.ndim == 4 and array.dtype == np.uint8):
        kinds: dict[int, Kind] = {2: "sequence", 3: "sequence", 4: "image"}
        return kinds.get(array.ndim, "other")
    whole = array.dtype.kind in "iu" and array.ndim == 2
    return "tokens" if whole and len(np.unique(array)) > 2 else "other"


def augmented(samples: Samples, text: str, times: int, seed: int) -> Samples:
    """`samples` followed by `times - 1` changed copies of each, as `multiplied` has them; as they are for `none`.

    What blends takes a batch: it is refused here where it is asked for, and left out of `auto`. Raises `ConfigError`,
    `DataError`.
    """
    how = choose(text, samples)
    if how is None:
        return samples
    if text != "auto" and how.blends:
        raise ConfigError("--augment mixup and cutmix need batches with a teacher: they are for training only")
    note = f"{len(samples)} samples were augmented ({text}) to {len(samples) * times}"
    return dataclasses.replace(multiplied(samples, how.single(), times, seed), notes=(*samples.notes, note))


def multiplied(samples: Samples, how: Augmentation, times: int, seed: int) -> Samples:
    """`samples` followed by `times - 1` changed copies of each (not blended), lazily read and the same whenever they
    are read. Labels follow."""
    reader = _Augmented(samples.reader, list(samples.indices), how, seed)
    labels = None if samples.labels is None else np.concatenate([samples.labels] * times)
    return dataclasses.replace(samples, reader=reader, indices=range(len(samples) * times), labels=labels)


def refuse_unsuited(how: Augmentation, samples: Samples) -> None:
    """Raise `ConfigError` if a part of `how` could change nothing in these samples."""
    if len(samples) and (names := how.unsuited(samples[0])):
        raise ConfigError(f"--augment {', '.join(names)} suits no input of this model: leave it out")


@dataclasses.dataclass(frozen=True)
class _Augmented:
    inner: Reader
    indices: Sequence[int]
    how: Augmentation
    seed: int

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> dict[str, Array]:
        copy, position = divmod(index, len(self.indices))
        feed = self.inner.read(self.indices[position])
        return feed if copy == 0 else self.how.apply(feed, np.random.default_rng([self.seed, index]))


def _channels_last(array: Array) -> bool:
    return array.shape[-1] in _CHANNELS and array.shape[1] not in _CHANNELS


def _time_axis(array: Array) -> int:
    return 1 if array.ndim == 2 or array.shape[1] >= array.shape[2] else 2


def _delayed(row: Array, axis: int, steps: int) -> Array:
    """Moved along `axis`; what comes in repeats the border."""
    where = np.clip(np.arange(row.shape[axis]) - steps, 0, row.shape[axis] - 1)
    return np.take(row, where, axis)


def _masked(array: Array, axes: Sequence[int], share: Range, random: np.random.Generator) -> Array:
    """A block set to the mean: along each of `axes` a span of a random share of its length."""
    block: list[slice] = [slice(None)] * array.ndim
    for axis in axes:
        length = round(random.uniform(*share) * array.shape[axis])
        begin = int(random.integers(0, array.shape[axis] - length + 1))
        block[axis] = slice(begin, begin + length)
    masked: Array = array.copy()
    masked[tuple(block)] = array.mean()
    return masked


def _boxes(random: np.random.Generator, rows: int) -> Array:
    """A box per row as shares of height and width: (rows, 2 axes, begin and end), of a uniformly drawn area."""
    side = np.sqrt(random.uniform(0, 1, (rows, 1)))
    begin = random.uniform(0, 1, (rows, 2)) * (1 - side)
    return np.stack([begin, begin + side], axis=-1)


def _blended(array: Array, partners: Array, own: Array, boxes: Array, cut: Array) -> Array:
    kind = kind_of(array)
    if kind not in SUITS["mixup"]:
        return array
    weight = own.reshape(-1, *[1] * (array.ndim - 1))
    if cut.any():
        weight = np.where(cut.reshape(weight.shape), _outside(array, kind, boxes), weight)
    return _as(array * weight + array[partners] * (1 - weight), array)


def _outside(array: Array, kind: Kind, boxes: Array) -> Array:
    """1 where a row stays itself, 0 in its box; shaped to broadcast over `array`."""
    last = kind == "image" and _channels_last(array)
    axes = ((1, 2) if last else (2, 3)) if kind == "image" else (_time_axis(array),)
    inside: Array = np.ones((1,) * array.ndim, np.float32)
    for box, axis in zip(np.moveaxis(boxes, 1, 0), axes, strict=False):
        place = (np.arange(array.shape[axis]) + 0.5) / array.shape[axis]
        span = (place >= box[:, :1]) & (place < box[:, 1:])
        inside = inside * span.reshape([len(array), *(len(place) if a == axis else 1 for a in range(1, array.ndim))])
    return 1 - inside


def _as(changed: Array, original: Array) -> Array:
    if convert.is_float(original.dtype):
        same: Array = np.ascontiguousarray(changed.astype(original.dtype))
        return same
    limits = np.iinfo(original.dtype)
    pixels: Array = np.clip(np.rint(changed), limits.min, limits.max).astype(original.dtype)
    return pixels
