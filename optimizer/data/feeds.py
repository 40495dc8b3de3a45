"""Feeds that come one by one and may come only once, kept in a scratch file so that they can be read again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from optimizer.data.storage import MAX_BYTES, Scratch, Stored
from optimizer.errors import DataError
from optimizer.model.ports import Array


class Feeds:
    """A reader that is filled by `append`. Memory holds what each array looks like, not its values (but text)."""

    def __init__(self, where: str, limit: int = MAX_BYTES) -> None:
        self._where, self._limit, self._scratch = where, limit, Scratch()
        self._feeds: list[dict[str, Stored | Array]] = []

    def append(self, feed: Mapping[str, Array]) -> None:
        """Keep a feed that already is what the model takes. Raises `DataError` beyond the limit of bytes."""
        self._feeds.append({name: self._keep(array) for name, array in feed.items()})

    def __len__(self) -> int:
        return len(self._feeds)

    def read(self, index: int) -> dict[str, Array]:
        kept = self._feeds[index]
        return {name: array.whole() if isinstance(array, Stored) else array for name, array in kept.items()}

    def _keep(self, array: Array) -> Stored | Array:
        if array.dtype.hasobject:
            return np.array(array)
        if self._scratch.size + array.nbytes > self._limit:
            raise DataError(f"{self._where}: more than {self._limit} bytes of samples; use --samples N to take fewer")
        return self._scratch.append(array, self._where)
