"""Opening a data SPEC: whatever a user may name after `--data`, as `Samples` that fit the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir

from optimizer.data import axes, fit, folders, function, sizes, synthetic
from optimizer.data.samples import Samples
from optimizer.errors import ConfigError, DataError
from optimizer.model import shapes
from optimizer.model.ports import Feed
from optimizer.recipe import Preprocess

DEFAULT_COUNT = 32


def open_samples(
    spec: str | Path | None,
    model: ir.Model,
    *,
    count: int | None = None,
    seed: int = 0,
    images: Preprocess | None = None,
    dims: Mapping[str, int] | None = None,
    runs: Callable[[Feed], bool] | None = None,
) -> Samples:
    """The samples that `spec` names, checked against the inputs of `model`.

    `None` makes synthetic samples (`DEFAULT_COUNT` unless `count` is given). With data, `count` draws that many at
    random (by `seed`), kept in their order, or takes all if there are fewer (the first from a function). `images` says
    how images are prepared. `dims` gives sizes to open axes of synthetic inputs, and `runs` tells whether the model
    runs on a feed: the first plausible sizes for which it does are taken. Raises `DataError`, or `ConfigError`.
    """
    if count is not None and count < 1:
        raise ConfigError(f"--samples is {count}; give at least 1")
    if spec is None:
        return _synthetic(model, count or DEFAULT_COUNT, seed, dims or {}, runs)
    fitted = _read(spec, fit.Target.of(model), count, images or Preprocess())
    every = range(len(fitted.reader))
    samples = Samples(str(spec), False, fitted.labels, fitted.reader, every, axes.joinable(model), fitted.notes)
    return samples if count is None else samples.pick(count, seed)


def _read(spec: str | Path, target: fit.Target, count: int | None, how: Preprocess) -> fit.Fitted:
    path = Path(spec)
    if path.is_dir():
        return folders.read(path, target, how)
    if path.suffix in folders.ARRAYS and path.exists():
        return folders.arrays(path, target)
    if not path.exists() and function.is_function(str(spec)):
        return function.read(str(spec), target, count)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    raise DataError(f"{path}: no kind of data that is known; give .npz, .npy, a folder or module:function")


def _synthetic(
    model: ir.Model, count: int, seed: int, dims: Mapping[str, int], runs: Callable[[Feed], bool] | None
) -> Samples:
    known = model.clone()
    shapes.infer(known)
    recipes = synthetic.recipes(known)
    for assignment in sizes.candidates(known, dims):
        reader = synthetic.Synthetic(recipes, assignment, seed, count)
        if runs is None or runs(reader.read(0)):
            source = ", ".join(("synthetic", *(f"{name}={size}" for name, size in assignment.items())))
            return Samples(source, True, None, reader, range(count), axes.joinable(model))
    names = ", ".join(sizes.open_axes(known)) or "none"
    raise DataError(
        f"the model runs on no synthetic input that was tried (open dimensions: {names}); "
        "give samples with --data, or sizes with --dim NAME=N"
    )
