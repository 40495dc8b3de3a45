"""Folders of samples.

===============================================  ====================================================================
the folder holds                                 samples
===============================================  ====================================================================
`input_0.pb` ..., or `test_data_set_*` folders   one feed per set, as the ONNX test runner takes them: a tensor feeds
                                                 the input it is named after, or the N-th; outputs are not read
`INPUT.npy` for every input of the model         one table, as a `.npz` of them would be; `labels.npy` too
`.npz` and `.npy` files                          the samples of each file in the order of the names, where "9" comes
                                                 before "10"; shapes may differ from file to file; a file may also
                                                 hold one sample without the batch axis
images, or class folders of images               see `images`
===============================================  ====================================================================

Hidden files, and text files with notes, are passed over; anything else is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from optimizer.data import fit, images, storage, tables
from optimizer.data.feeds import Feeds
from optimizer.data.order import natural
from optimizer.errors import DataError
from optimizer.model import tensor_file
from optimizer.model.ports import Array
from optimizer.recipe import Preprocess

SETS = "test_data_set_*"
ARRAYS = {".npz", ".npy"}
_NOTES = {".txt", ".md", ".rst", ".json", ".toml", ".yaml", ".yml", ".csv"}
_INPUT = re.compile(r"input_(\d+)\.pb")


def read(folder: Path, target: fit.Target, how: Preprocess) -> fit.Fitted:
    """The samples in `folder`. Raises `DataError`."""
    sets = natural(path for path in folder.glob(SETS) if path.is_dir()) or ([folder] if _is_set(folder) else [])
    if sets:
        return data_sets(sets, target, str(folder))
    if images.is_images(folder):
        return images.read(folder, target, how)
    files = [path for path in natural(folder.iterdir()) if not path.name.startswith(".") and path.suffix not in _NOTES]
    other = [path for path in files if path.suffix not in ARRAYS]
    if not files:
        raise DataError(f"{folder}: holds no samples; put .npz, .npy, images or {SETS} folders there")
    if other:
        raise DataError(f"{folder}: {other[0].name!r} is no kind of sample that is known; keep it elsewhere")
    if {port.name for port in target.ports} <= {path.stem for path in files if path.suffix == ".npy"}:
        return tables.table(target, {path.stem: storage.open_npy(path) for path in files}, str(folder))
    return tables.chain([arrays(path, target, unbatched=True) for path in files], str(folder))


def arrays(path: Path, target: fit.Target, *, unbatched: bool = False) -> fit.Fitted:
    """The samples in one `.npz` or `.npy` file."""
    if path.suffix == ".npz":
        return tables.table(target, storage.open_npz(path), str(path), unbatched=unbatched)
    if len(target.ports) == 1:
        found = {target.ports[0].name: storage.open_npy(path)}
        return tables.table(target, found, str(path), unbatched=unbatched)
    raise DataError(f"{path}: a .npy file feeds one input, the model has {len(target.ports)}; use .npz")


def data_sets(sets: Sequence[Path], target: fit.Target, where: str) -> fit.Fitted:
    """One feed per ONNX test data set."""
    feeds = Feeds(where)
    notes: tuple[str, ...] = ()
    for path in sets:
        try:
            tensors = _tensors(path, target)
            notes = notes or fit.notes(target, tensors)
            feeds.append(fit.one(target, tensors))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    return fit.Fitted(feeds, None, notes)


def _is_set(folder: Path) -> bool:
    return any(_INPUT.fullmatch(path.name) for path in folder.iterdir())


def _tensors(folder: Path, target: fit.Target) -> dict[str, Array]:
    names = [port.name for port in target.ports]
    found: dict[str, Array] = {}
    for path in folder.iterdir():
        match = _INPUT.fullmatch(path.name)
        if match is None:
            continue
        name, array = tensor_file.read(path)
        index = int(match[1])
        if name not in names and index >= len(names):
            raise DataError(f"{path.name} has no input to feed: the model takes {len(names)}")
        found[name if name in names else names[index]] = array
    return found
