"""A folder of images as samples: `FOLDER/*.jpg`, or `FOLDER/CLASS/*.jpg` where the class folders are the labels.

A label is the number of its class folder in the order of the names ("9" before "10"), or the name itself where all
names are numbers. What becomes of an image, each step as `Preprocess` says:

1. decoded, turned as its EXIF orientation asks, made RGB (or gray where the model takes one channel);
2. brought to the size: `crop` scales the shorter side to size / share and cuts the centre out; `stretch` scales both
   sides; `pad` scales the longer side and fills the right and the bottom with zeros after step 3;
3. x = (pixel * scale - mean) / std per channel, in float32; an input of uint8 that carries no code gets the pixels;
4. channels reversed for BGR, laid out as NCHW or NHWC.

Images are decoded when read: memory holds one sample. Needs Pillow (extra `images`).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optimizer.data import axes, convert, fit
from optimizer.data.order import natural
from optimizer.errors import ConfigError, DataError, MissingExtra
from optimizer.model.ports import Array, Port
from optimizer.recipe import Preprocess

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jfif"}
DEFAULT_SIZE = 224
_CHANNELS = (1, 3)


def is_images(folder: Path) -> bool:
    """Whether `folder` or a folder in it holds an image."""
    return any(path.suffix.lower() in SUFFIXES for path in folder.glob("*.*")) or any(
        path.suffix.lower() in SUFFIXES for path in folder.glob("*/*.*")
    )


def read(folder: Path, target: fit.Target, how: Preprocess) -> fit.Fitted:
    """The images in `folder` as samples. Raises `DataError`, `ConfigError`, `MissingExtra`."""
    if len(target.ports) != 1 or len(target.ports[0].shape) != 4:
        raise DataError(f"{folder}: images feed one input of four dimensions, which this model does not have; use .npz")
    reader = _Images(_paths(folder), _plan(target, how))
    labels = _labels([path.parent.name for path in reader.paths]) if reader.paths[0].parent != folder else None
    if not len(reader):
        raise DataError(f"{folder}: fewer images than the model's fixed batch of {reader.plan.batch}")
    if labels is not None:
        batch = reader.plan.batch
        labels = labels if batch == 1 else labels[: len(reader) * batch].reshape(-1, batch)
    return fit.Fitted(reader, labels, ())


@dataclasses.dataclass(frozen=True)
class _Plan:
    """`Preprocess` once the model's input has been looked at."""

    how: Preprocess
    port: Port
    size: tuple[int, int]
    channels: int
    last: bool
    batch: int
    convert: convert.Conversion
    pixels: bool
    """Whether the input takes the pixels themselves."""


@dataclasses.dataclass(frozen=True)
class _Images:
    paths: Sequence[Path]
    plan: _Plan

    def __len__(self) -> int:
        return len(self.paths) // self.plan.batch

    def read(self, index: int) -> dict[str, Array]:
        batch = self.plan.batch
        rows = [prepare(path, self.plan) for path in self.paths[index * batch : (index + 1) * batch]]
        return {self.plan.port.name: self.plan.convert(np.stack(rows))}


def prepare(path: Path, plan: _Plan) -> Array:
    """One image as (C, H, W) or (H, W, C)."""
    image = _decode(path, plan.channels)
    height, width = plan.size
    how = plan.how
    placed = _cropped(image, plan) if how.fit == "crop" else _scaled(image, plan)
    pixels = np.asarray(placed).reshape(placed.height, placed.width, plan.channels)
    values = pixels if plan.pixels else _normalized(pixels, how)
    filled = np.zeros((height, width, plan.channels), values.dtype)
    filled[: placed.height, : placed.width] = values
    ordered = filled[:, :, ::-1] if how.order == "bgr" else filled
    return np.ascontiguousarray(ordered if plan.last else ordered.transpose(2, 0, 1))


def _plan(target: fit.Target, how: Preprocess) -> _Plan:
    port = target.ports[0]
    last = how.layout == "nhwc" or (
        how.layout == "auto" and port.shape[3] in _CHANNELS and port.shape[1] not in _CHANNELS
    )
    batch, *rest = (0 if axes.is_open(dim) or not isinstance(dim, int) else dim for dim in port.shape)
    height, width, channels = rest if last else (rest[1], rest[2], rest[0])
    wanted = how.size or (height or DEFAULT_SIZE, width or DEFAULT_SIZE)
    if (height and wanted[0] != height) or (width and wanted[1] != width):
        raise ConfigError(f"images: size {wanted[0]}x{wanted[1]} does not fit input {port.name!r}, {height}x{width}")
    if (channels or 3) not in _CHANNELS:
        raise DataError(f"images: input {port.name!r} takes {channels} channels, images have 1 or 3; use .npz")
    if {len(how.mean), len(how.std)} - {1, channels or 3} and channels != 1:
        raise ConfigError(f"images: mean and std need one value, or one for each of {channels or 3} channels")
    pixels = port.dtype == np.uint8 and port.name not in target.codes
    turn, _ = target.conversion(np.dtype(np.uint8 if pixels else np.float32), port)
    return _Plan(how, port, wanted, channels or 3, last, batch or 1, turn, pixels)


def _decode(path: Path, channels: int) -> Image:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtra("pillow", "images") from error
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image: {(str(error).splitlines() or ['damaged'])[0]}") from error


def _cropped(image: Image, plan: _Plan) -> Image:
    height, width = plan.size
    factor = max(height / image.height, width / image.width) / plan.how.crop
    scaled = _resized(image, max(round(image.height * factor), height), max(round(image.width * factor), width), plan)
    left, top = (scaled.width - width) // 2, (scaled.height - height) // 2
    return scaled.crop((left, top, left + width, top + height))


def _scaled(image: Image, plan: _Plan) -> Image:
    height, width = plan.size
    if plan.how.fit == "stretch":
        return _resized(image, height, width, plan)
    factor = min(height / image.height, width / image.width)
    return _resized(
        image, min(max(round(image.height * factor), 1), height), min(max(round(image.width * factor), 1), width), plan
    )


def _resized(image: Image, height: int, width: int, plan: _Plan) -> Image:
    from PIL.Image import Resampling

    return image.resize((width, height), Resampling[plan.how.interpolation.upper()])


def _normalized(pixels: Array, how: Preprocess) -> Array:
    channels = pixels.shape[2]
    mean, std = (np.asarray(values, np.float32) for values in (how.mean, how.std))
    if channels == 1:
        mean, std = mean.mean(), std.mean()
    result: Array = (pixels.astype(np.float32) * np.float32(how.scale) - mean) / std
    return result


def _paths(folder: Path) -> list[Path]:
    flat, nested = ([p for p in folder.glob(pattern) if p.suffix.lower() in SUFFIXES] for pattern in ("*.*", "*/*.*"))
    if flat and nested:
        raise DataError(f"{folder}: holds images beside folders of images; move the former into a class folder")
    return natural(flat or nested)


def _labels(names: Sequence[str]) -> Array:
    if all(name.isdecimal() for name in names):
        return np.array([int(name) for name in names], np.int64)
    classes = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([classes[name] for name in names], np.int64)
