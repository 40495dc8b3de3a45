"""What is done to an image before a model sees it; `data.images` does it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from optimizer.errors import ConfigError

_CHOICES = {
    "fit": ("crop", "stretch", "pad"),
    "layout": ("auto", "nchw", "nhwc"),
    "order": ("rgb", "bgr"),
    "interpolation": ("nearest", "bilinear", "bicubic"),
}


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What is done to an image before the model sees it. The defaults are those of ImageNet classifiers."""

    size: tuple[int, int] | None = None
    """Height and width; None takes the model's, or 224 where it leaves them open."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    crop: float = 0.875
    """The share of the shorter side that a centre crop keeps, 0 < crop <= 1."""
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    order: Literal["rgb", "bgr"] = "rgb"
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        for field, allowed in _CHOICES.items():
            if getattr(self, field) not in allowed:
                raise ConfigError(f"images: {field} is {getattr(self, field)!r}; give one of {', '.join(allowed)}")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"images: crop is {self.crop}; it must lie above 0 and at most at 1")
        if self.size is not None and min(self.size) < 1:
            raise ConfigError(f"images: size is {self.size}; give height and width in pixels")
        if not self.std or not all(self.std):
            raise ConfigError("images: std must not be zero")


IMAGENET = Preprocess()
