"""Memory that training frees stays with the process until it is done.

Every step allocates the same large tensors. glibc gets each from the system and gives it back at once, and the system
clears it page by page: a quarter of the time of a convolutional network. Other C libraries are left as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""
_HELD = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_USUAL = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 * 1024}


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A context in which the allocator keeps what is freed."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    _set(library, _HELD)
    try:
        yield
    finally:
        _set(library, _USUAL)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for name, value in parameters.items():
        library.mallopt(name, value)
