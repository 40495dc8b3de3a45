"""Samples from the user's own code: `module:function`, or `path/to/file.py:function`.

The function is called without arguments and yields one of
- a dict of arrays by input name: one run's inputs; the batch axis may be left out,
- a pair (dict, label): a batch of several samples may be yielded with one label for each, and is taken apart,
- an array or a pair (array, label), where the model has one input.

All yields or none must have labels. What is yielded goes to a scratch file (see `feeds`): a generator is run once, at
most until `count` samples are there. The module is looked for in the current directory first.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from optimizer.data import fit
from optimizer.data.feeds import Feeds
from optimizer.errors import DataError, OptimizeError
from optimizer.model.ports import Array

_SPEC = re.compile(r"(?P<module>.+):(?P<function>[A-Za-z_][\w.]*)")


def is_function(spec: str) -> bool:
    """Whether `spec` looks like `module:function`."""
    return _SPEC.fullmatch(spec) is not None


def read(spec: str, target: fit.Target, count: int | None) -> fit.Fitted:
    """The samples that the function yields, at most `count`. Raises `DataError`, also for what the function raises."""
    feeds = Feeds(spec)
    labels: list[Any] = []
    notes: tuple[str, ...] = ()
    with _search_here():
        for sample, label in itertools.islice(_samples(spec, target), count):
            notes = notes or fit.notes(target, sample)
            feeds.append(_fitted(spec, len(feeds), sample, target))
            labels.extend([] if label is None else [label])
    if not len(feeds):
        raise DataError(f"{spec}: yields no samples")
    if labels and len(labels) < len(feeds):
        raise DataError(f"{spec}: {len(feeds) - len(labels)} of {len(feeds)} samples have no label; label all or none")
    return fit.Fitted(feeds, _stack(spec, labels) if labels else None, notes)


def _fitted(spec: str, index: int, sample: Mapping[str, Array], target: fit.Target) -> dict[str, Array]:
    try:
        return fit.one(target, sample)
    except DataError as error:
        raise DataError(f"{spec}: sample {index}: {error}") from error


def _samples(spec: str, target: fit.Target) -> Iterator[tuple[Mapping[str, Array], Any]]:
    with _UserCode(spec):
        results = load(spec)()
    if not isinstance(results, Iterable) or isinstance(results, (str, bytes, Mapping)):
        raise DataError(f"{spec}: must yield dicts of arrays by input name, but returned {type(results).__name__}")
    with _UserCode(spec):
        iterator = iter(results)
    end = object()
    while True:
        with _UserCode(spec):
            item = next(iterator, end)
        if item is end:
            return
        yield from _unpacked(spec, item, target)


def _unpacked(spec: str, item: Any, target: fit.Target) -> Iterator[tuple[Mapping[str, Array], Any]]:
    sample, label = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if not isinstance(sample, Mapping):
        if len(target.ports) != 1:
            raise DataError(f"{spec}: must yield dicts of arrays by input name, but yielded {type(sample).__name__}")
        sample = {target.ports[0].name: sample}
    with _UserCode(spec):
        arrays = {str(name): np.asarray(array) for name, array in sample.items()}
        label = None if label is None else np.asarray(label)
    if label is None or not _is_batch(arrays, label, target):
        yield arrays, label if label is None or label.shape != (1,) else label[0]
        return
    for row in range(len(label)):
        yield {name: array[row : row + 1] for name, array in arrays.items()}, label[row]


def _is_batch(arrays: Mapping[str, Array], label: Array, target: fit.Target) -> bool:
    """Whether the label has one entry for each of the several rows of every array."""
    full = {port.name: len(port.shape) for port in target.ports}
    rows = {array.shape[0] if array.ndim and array.ndim == full.get(name) else 1 for name, array in arrays.items()}
    return label.ndim > 0 and rows == {len(label)} and len(label) > 1


def _stack(spec: str, labels: list[Any]) -> Array:
    try:
        return np.stack(labels)
    except ValueError as error:
        raise DataError(f"{spec}: labels have different shapes; make them agree") from error


def load(spec: str) -> Callable[[], Any]:
    """The function that `spec` names. Raises `DataError`."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise DataError(f"{spec}: not of the form module:function")
    with _search_here(), _UserCode(spec):
        found: Any = _module(match["module"])
    for part in match["function"].split("."):
        if not hasattr(found, part):
            raise DataError(f"{spec}: {match['module']} has no {match['function']!r}")
        found = getattr(found, part)
    if not callable(found):
        raise DataError(f"{spec}: {match['function']!r} is no function")
    function: Callable[[], Any] = found
    return function


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    found = importlib.util.spec_from_file_location(Path(name).stem, name)
    if found is None or found.loader is None:
        raise DataError(f"{name}: not a Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _search_here() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


class _UserCode:
    """Turns whatever the user's own code raises into a `DataError` that says so."""

    def __init__(self, spec: str) -> None:
        self._spec = spec

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, OptimizeError):
            reason = (str(error).splitlines() or [""])[0]
            raise DataError(f"{self._spec}: {type(error).__name__}: {reason}") from error
