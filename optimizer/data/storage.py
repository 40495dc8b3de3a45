"""Arrays that stay on disk: `.npy` files, the members of `.npz` files, and a scratch file for what has no file.

A header is read and checked against the bytes that are there before anything is allocated, since 144 bytes may ask
for 4 TiB and 195 KB may unpack to 200 MB. Rows are read through a mapping of just those rows, which is dropped at
once: resident memory does not grow with the file. A compressed member cannot be read from the middle, so it is unpacked
once, when first read, into an unnamed scratch file that vanishes with the process. Objects are never unpickled.

Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, PKWARE APPNOTE 4.3.7 (local header).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
import struct
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from optimizer.errors import DataError
from optimizer.model.ports import Array

MAX_BYTES = 16 * 2**30
"""The most that compressed data may unpack to, that generated data may take in the scratch file, and one sample."""

_LOCAL_HEADER = struct.Struct("<26xHH")
_ENCRYPTED = 0x1


class Scratch:
    """An unnamed temporary file that is gone when nothing refers to it any more."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="optimize-")  # noqa: SIM115 - closed by the finalizer
        self.size = 0
        weakref.finalize(self, self.file.close)

    def append(self, array: Array, what: str) -> Stored:
        """Keep `array` (any but an object array) and return where it is."""
        offset = self.size
        try:
            self.file.write(np.ascontiguousarray(array).tobytes())
            self.file.flush()
        except OSError as error:
            raise DataError(f"{what}: the scratch file in {tempfile.gettempdir()} cannot grow: {error}") from error
        self.size += array.nbytes
        return Stored(what, array.dtype, array.shape, self, offset)


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """An array somewhere in a file, uncompressed."""

    what: str
    """How a message names it."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    home: Path | Scratch
    offset: int
    fortran: bool = False

    def rows(self, start: int, stop: int) -> Array:
        """A copy of the rows start..stop-1 along the first axis."""
        shape = (stop - start, *self.shape[1:])
        if self.fortran and len(self.shape) > 1:
            return np.array(self._map(self.shape, 0, "F")[start:stop], order="C")
        return np.array(self._map(shape, start * math.prod(self.shape[1:]), "C"))

    def whole(self) -> Array:
        """A copy of all of it."""
        return np.array(self._map(self.shape, 0, "F" if self.fortran else "C"), order="C")

    def _map(self, shape: tuple[int, ...], skip: int, order: Any) -> Array:
        if (needed := math.prod(shape) * self.dtype.itemsize) > MAX_BYTES:
            raise DataError(f"{self.what}: one sample of {needed} bytes is too large; the limit is {MAX_BYTES}")
        if not needed:
            return np.empty(shape, self.dtype)
        file: Any = self.home.file if isinstance(self.home, Scratch) else self.home
        offset = self.offset + skip * self.dtype.itemsize
        try:
            return np.memmap(file, self.dtype, "r", offset, shape or (1,), order).view(np.ndarray).reshape(shape)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.what}: cannot be read any more: {error}") from error


class Packed:
    """A compressed member of a `.npz` file; the same interface as `Stored`."""

    def __init__(self, stored: Stored, archive: Path, member: str) -> None:
        self.what, self.dtype, self.shape = stored.what, stored.dtype, stored.shape
        self._packed, self._archive, self._member = stored, archive, member

    def rows(self, start: int, stop: int) -> Array:
        """A copy of the rows start..stop-1 along the first axis."""
        return self._unpacked.rows(start, stop)

    def whole(self) -> Array:
        """A copy of all of it."""
        return self._unpacked.whole()

    @functools.cached_property
    def _unpacked(self) -> Stored:
        scratch = Scratch()
        try:
            with zipfile.ZipFile(self._archive) as archive, archive.open(self._member) as member:
                shutil.copyfileobj(member, scratch.file, 2**20)
            scratch.file.flush()
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(f"{self.what}: cannot be unpacked: {error}") from error
        return dataclasses.replace(self._packed, home=scratch)


def open_npy(path: Path) -> Stored:
    """The array in a `.npy` file. Raises `DataError`."""
    try:
        with path.open("rb") as file:
            dtype, shape, fortran = _header(file, str(path))
            offset = file.tell()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    _check_size(str(path), dtype, shape, path.stat().st_size - offset)
    return Stored(str(path), dtype, shape, path, offset, fortran)


def open_npz(path: Path, limit: int = MAX_BYTES) -> dict[str, Stored | Packed]:
    """The arrays in a `.npz` file by name. Raises `DataError`, also if they unpack to more than `limit` bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
            if packed > limit:
                raise DataError(f"{path}: unpacks to {packed} bytes, the limit is {limit}; save it with numpy.savez")
            return {member.filename.removesuffix(".npy"): _member(path, archive, member) for member in members}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error) as error:
        raise DataError(f"{path}: not a readable .npz file: {error}") from error


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Stored | Packed:
    what = f"{path}: array {member.filename.removesuffix('.npy')!r}"
    if member.flag_bits & _ENCRYPTED or not member.filename.endswith(".npy"):
        raise DataError(f"{path}: the member {member.filename!r} is not a plain .npy array; write it with numpy.savez")
    with archive.open(member) as file:
        dtype, shape, fortran = _header(file, what)
        skip = file.tell()
    _check_size(what, dtype, shape, member.file_size - skip)
    if member.compress_type != zipfile.ZIP_STORED:
        return Packed(Stored(what, dtype, shape, path, skip, fortran), path, member.filename)
    start = _data_start(path, member)
    if start + member.file_size > path.stat().st_size:
        raise DataError(f"{what}: the file is truncated")
    return Stored(what, dtype, shape, path, start + skip, fortran)


def _data_start(path: Path, member: zipfile.ZipInfo) -> int:
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return member.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def _header(file: IO[bytes], what: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError) as error:
        raise DataError(f"{what}: not an array in .npy format: {_first_line(error)}") from error
    if dtype.hasobject or dtype.names is not None:
        raise DataError(f"{what}: holds Python objects or records, not numbers; these are never read")
    return dtype, shape, fortran


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["it ends too early"])[0]


def _check_size(what: str, dtype: np.dtype[Any], shape: tuple[int, ...], available: int) -> None:
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or needed != available:
        raise DataError(f"{what}: shape {shape} of {dtype} needs {needed} bytes, but {available} are there")
