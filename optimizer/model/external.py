"""Where the external data of an untrusted model may lie: inside its own folder, in a regular file, within its length.

The folder is the one that holds the model's name, or the one that holds the file behind that name when it is a
symbolic link. Both count: a download cache keeps `snapshot/model.onnx` and `snapshot/model.onnx.data` as links into
`blobs/`, so the data is found by its logical name and lies beside the model's physical file.

Refused: absolute names, `..`, backslashes and drive letters; a link out of both folders; a file with more than one
hard link, which may be another user's file under a new name; anything but a regular file; unknown, repeated or
non-numeric entries; an offset or a length that does not fit the file or the tensor.
"""

from __future__ import annotations

import re
from pathlib import Path

from onnx import TensorProto

from optimizer.errors import ModelError

_OUTLANDISH = re.compile(r"[\\\0]|^[A-Za-z]:|[^/]{256}|.{1024}")
"""Backslashes, drive letters, and names that no file system takes."""
KEYS = {"location", "offset", "length", "checksum"}


def check(tensor: TensorProto, size: int, file: Path) -> Path:
    """Raise `ModelError` unless `tensor` has its `size` bytes in a file that the model at `file` may name.

    Returns the folder that the data lies in, and rewrites the tensor's location relative to it.
    """
    entries = _entries(tensor)
    location = entries.get("location", "")
    folder, found = _find(location, file, tensor.name)
    offset, length = (_number(entries, key, tensor.name) for key in ("offset", "length"))
    if length is not None and length != size:
        raise ModelError(f"tensor {tensor.name!r} needs {size} bytes of external data, but its length says {length}")
    available = found.stat().st_size
    if (offset or 0) + size > available:
        raise ModelError(
            f"tensor {tensor.name!r} needs bytes {offset or 0} to {(offset or 0) + size} of {location!r}, "
            f"which has {available}: the file is truncated or belongs to another model"
        )
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = found.relative_to(folder).as_posix()
    return folder


def _entries(tensor: TensorProto) -> dict[str, str]:
    keys = [entry.key for entry in tensor.external_data]
    unknown = sorted(set(keys) - KEYS)
    if unknown:
        raise ModelError(f"tensor {tensor.name!r} has unknown external data entries: {', '.join(unknown)}")
    if len(set(keys)) < len(keys):
        raise ModelError(f"tensor {tensor.name!r} has repeated external data entries")
    return {entry.key: entry.value for entry in tensor.external_data}


def _number(entries: dict[str, str], key: str, name: str) -> int | None:
    text = entries.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"tensor {name!r}: the {key} {text!r} of its external data is no size in bytes")
    return int(text)


def _find(location: str, file: Path, name: str) -> tuple[Path, Path]:
    """The allowed folder and the real path of the data inside it."""
    parts = location.split("/")
    if not location or location.startswith("/") or ".." in parts or _OUTLANDISH.search(location):
        raise ModelError(f"tensor {name!r}: external data must be beside the model, not at {location!r}")
    logical, physical = file.parent, file.resolve().parent
    candidates = [folder / location for folder in (logical, physical) if (folder / location).exists()]
    if not candidates:
        raise ModelError(f"the external data file {location!r} is missing; it must lie beside {file.name}")
    found = candidates[0].resolve()
    for folder in (physical, logical.resolve()):
        if found.is_relative_to(folder):
            _check_regular(found, location)
            return folder, found
    raise ModelError(f"the external data file {location!r} is a link out of the model's folder; copy the file there")


def _check_regular(found: Path, location: str) -> None:
    if not found.is_file():
        raise ModelError(f"the external data {location!r} is not a regular file")
    if found.stat().st_nlink > 1:
        raise ModelError(f"the external data file {location!r} has several hard links; copy it to a file of its own")
