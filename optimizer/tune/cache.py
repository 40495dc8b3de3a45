"""Models that prefixes of recipes give, kept by content and shared by all local workers.

An entry is a folder named by its key, with the files of one model in it (external data too). It is made under another
name and renamed, so that it is whole or not there; the first of two workers that make the same entry wins, and the
other's copy is dropped, since both are equal. Reading gives links (or copies) of the files, which stay when the entry
is evicted meanwhile. Above `limit` bytes the entries that were read or made the longest ago go.

A key is a hash of everything that decides the bytes: the original model, the samples, the seed, the threads, the steps,
and the version of this package.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

_FORGOTTEN = 3600
"""Seconds after which an entry in the making has no maker any more."""


def key(*parts: object) -> str:
    """A name for what `parts` (plain JSON types) decide."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def usual_folder() -> Path:
    """Where the user's caches are."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "optimize" / "tune"


class Cache:
    """Folders of files by key, in at most `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, name: str, into: Path) -> bool:
        """Put the files of an entry into the new folder `into`; False, and no folder, if there is no such entry."""
        entry = self.folder / name
        try:
            os.utime(entry)
            shutil.copytree(entry, into, copy_function=_link)
        except (OSError, shutil.Error):
            shutil.rmtree(into, ignore_errors=True)
            return False
        return True

    def store(self, name: str, source: Path) -> None:
        """Keep a copy of the files in the folder `source`; where there is no room for them nothing is kept."""
        if _bytes(source) > self.limit:
            return
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            made = temporary / "entry"
            shutil.copytree(source, made, copy_function=_link)
            with contextlib.suppress(OSError):  # another worker was first
                made.rename(self.folder / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.trim()

    def trim(self) -> None:
        """Drop the entries that were not used for the longest, until the rest fits."""
        left = self.limit
        _clear(self.folder)
        for entry in _latest_first(self.folder.iterdir()):
            left -= _bytes(entry)
            if left < 0:
                _drop(entry)


def _latest_first(entries: Iterable[Path]) -> list[Path]:
    aged = []
    for entry in entries:
        with contextlib.suppress(OSError):  # gone meanwhile
            if not entry.name.startswith("."):
                aged.append((entry.stat().st_mtime, entry))
    return [entry for _, entry in sorted(aged, reverse=True)]


def _clear(folder: Path) -> None:
    """Remove what workers that died left half done."""
    for entry in folder.glob(".*-*"):
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(entry, ignore_errors=True)


def _drop(entry: Path) -> None:
    """Renamed first, so that nobody finds half of it."""
    away = entry.with_name(f".old-{os.getpid()}-{entry.name}")
    with contextlib.suppress(OSError):
        entry.rename(away)
        shutil.rmtree(away, ignore_errors=True)


def _bytes(folder: Path) -> int:
    """The size of the files in a folder that may vanish meanwhile."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += (Path(place) / name).stat().st_size
    return found


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
