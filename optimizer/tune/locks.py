"""A lock between processes that goes with its holder, however that ends: the system keeps it, not a file's presence."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import IO


class FileLock:
    """Held by one process at a time; `path` is a file that is made for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        file = self.path.open("ab")
        try:
            _lock(file.fileno())
        except BaseException:
            file.close()
            raise
        self._file = file
        return True

    def release(self) -> None:
        """Leave it to the next; closing the file does."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            with contextlib.suppress(OSError):  # it gives up after ten seconds
                msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
                return
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_EX)
