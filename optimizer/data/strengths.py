"""The grammar of augmentation: names with a strength, ``flip,rotate=10,scale=0.9:1.1,noise=0.05``.

LOW:HIGH is a range; one number S a range around nothing (`scale`: S to 1/S; `crop`: S to 1; `mask`: 0 to S).

===========  =====================================  ======================================================
name         strength (default)                     what it does, to inputs of which kind
===========  =====================================  ======================================================
flip         h, v or hv (h)                         image: mirrored, each way with probability 1/2
rotate       degrees (10)                           image: turned by -S to S
scale        factor (0.9:1.1)                       image: enlarged by the factor
shear        share (0.15)                           image: slanted by up to S of its height
shift        share (0.1)                            image: moved by up to S of width and height; sequence: in time
crop         share of the area (0.8)                image: a random part of S to 1 of it, enlarged to full size
brightness   share of the deviation (0.2)           image: a constant added
colour       share (0.2)                            image: each channel times 1-S to 1+S, plus -S to S deviations
noise        share of the deviation (0.05)          image, sequence: normal noise added
mask         share of the length (0.1)              image: a rectangle, sequence: a span of time set to the mean
tokens       share (0.15), or share:ID              tokens: replaced by other tokens of the sample, or by ID
mixup        alpha (0.2)                            image, sequence: two samples of a batch blended, weight from
                                                    Beta(alpha, alpha) (Zhang et al., "mixup", 2018)
cutmix       share of the samples (0.5)             image: a rectangle, sequence: a span of time taken from another
                                                    sample of the batch (Yun et al., "CutMix", 2019)
===========  =====================================  ======================================================

``auto`` is a mild mixture for the kinds of input that are there, where samples are few: a teacher answers to whatever
it is shown, so all that an augmentation has to do is to stay near the data. ``none`` is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from optimizer.errors import ConfigError

Kind = Literal["image", "sequence", "tokens", "other"]
Range = tuple[float, float]

DEFAULTS: dict[str, Range] = {
    "rotate": (-10, 10), "shear": (-0.15, 0.15), "scale": (0.9, 1.1), "shift": (-0.1, 0.1), "crop": (0.8, 1.0),
    "brightness": (-0.2, 0.2), "colour": (-0.2, 0.2), "cutmix": (0.5, 0.5),
    "noise": (0.05, 0.05), "mask": (0.0, 0.1), "tokens": (0.15, -1.0), "mixup": (0.2, 0.2),
}  # fmt: skip
AROUND_ZERO = {"rotate", "shear", "shift", "brightness", "colour"}
SUITS: dict[str, tuple[Kind, ...]] = {
    "flip": ("image",), "rotate": ("image",), "shear": ("image",), "scale": ("image",), "crop": ("image",),
    "brightness": ("image",), "colour": ("image",), "cutmix": ("image", "sequence"),
    "shift": ("image", "sequence"), "noise": ("image", "sequence"), "mask": ("image", "sequence"),
    "tokens": ("tokens",), "mixup": ("image", "sequence"),
}  # fmt: skip
"""Which kinds of input a name works on."""


AUTO: dict[Kind, str] = {
    "image": "rotate=10,shear=0.1,scale=0.9:1.1,shift=0.07,mixup=1,cutmix=0.5",
    "sequence": "shift=0.05,noise=0.05,mixup=0.4",
    "tokens": "tokens=0.1",
}


def parse(text: str) -> tuple[str, dict[str, Range]]:
    """The axes to flip along and a range per name. Raises `ConfigError`."""
    flips = ""
    strengths: dict[str, Range] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, given, strength = part.partition("=")
        if name not in SUITS:
            raise ConfigError(f"--augment {name!r} is not known; choose from {', '.join(SUITS)}")
        if name == "flip":
            flips = _flips(strength if given else "h")
        else:
            strengths[name] = _range(name, strength) if given else DEFAULTS[name]
    if not flips and not strengths:
        raise ConfigError("--augment names nothing; write it like flip,rotate=10,scale=0.9:1.1")
    return flips, strengths


def _flips(text: str) -> str:
    if not text or set(text) - {"h", "v"}:
        raise ConfigError(f"--augment flip={text}: write flip=h, flip=v or flip=hv")
    return text


def _range(name: str, text: str) -> Range:
    try:
        numbers = [float(number) for number in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers = list(_spread(name, numbers[0]))
    if len(numbers) != 2 or not _sensible(name, numbers[0], numbers[1]):
        raise ConfigError(f"--augment {name}={text}: give one number or LOW:HIGH that make sense for {name}")
    return numbers[0], numbers[1]


def _spread(name: str, number: float) -> Range:
    ranges: dict[str, Callable[[], Range]] = {
        "scale": lambda: (min(number, 1 / number), max(number, 1 / number)) if number > 0 else (0.0, 0.0),
        "crop": lambda: (number, 1.0),
        "mask": lambda: (0.0, number),
        "tokens": lambda: (number, -1.0),
    }
    if name in ranges:
        return ranges[name]()
    return (-abs(number), abs(number)) if name in AROUND_ZERO else (number, number)


def _sensible(name: str, low: float, high: float) -> bool:
    if not np.isfinite([low, high]).all() or (low > high and name != "tokens"):
        return False
    limits = {"scale": (1e-3, 1e3), "crop": (1e-3, 1), "mask": (0, 1), "noise": (0, 1e3), "mixup": (1e-3, 1e3),
              "cutmix": (0, 1), "shift": (-1, 1), "tokens": (-1, 2**62)}  # fmt: skip
    least, most = limits.get(name, (-1e3, 1e3))
    return least <= min(low, high) and max(low, high) <= most and (name != "tokens" or 0 <= low <= 1)
