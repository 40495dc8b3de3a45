"""Opening a data SPEC: whatever a user may name after `--data`, as `Samples` that fit the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir

from optimizer.data import axes, fit, sizes, storage, synthetic
from optimizer.data.samples import Samples
from optimizer.errors import DataError
from optimizer.model import shapes
from optimizer.model.ports import Feed

DEFAULT_COUNT = 32


def open_samples(
    spec: str | Path | None,
    model: ir.Model,
    *,
    count: int | None = None,
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    runs: Callable[[Feed], bool] | None = None,
) -> Samples:
    """The samples that `spec` names, checked against the inputs of `model`.

    `None` makes synthetic samples (`DEFAULT_COUNT` unless `count` is given). With data, `count` draws that many at
    random (by `seed`), kept in their order, or takes all if there are fewer. `dims` gives sizes to open axes of
    synthetic inputs, and `runs` tells whether the model runs on a feed: the first plausible sizes for which it does
    are taken. Raises `DataError`.
    """
    if spec is None:
        return _synthetic(model, count or DEFAULT_COUNT, seed, dims or {}, runs)
    path = Path(spec)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    fitted = _file(path, fit.Target.of(model))
    samples = Samples(
        str(spec), False, fitted.labels, fitted.reader, range(len(fitted.reader)), axes.joinable(model), fitted.notes
    )
    return samples if count is None else samples.pick(count, seed)


def _file(path: Path, target: fit.Target) -> fit.Fitted:
    if path.suffix == ".npz":
        return fit.table(target, storage.open_npz(path), str(path))
    if path.suffix == ".npy" and len(target.ports) == 1:
        return fit.table(target, {target.ports[0].name: storage.open_npy(path)}, str(path))
    if path.suffix == ".npy":
        raise DataError(f"{path}: a .npy file feeds one input, the model has {len(target.ports)}; use .npz")
    raise DataError(f"{path}: not a kind of data that is known; give .npz, .npy, a folder or module:function")


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
