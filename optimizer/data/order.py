"""The order of files in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def natural(paths: Iterable[Path]) -> list[Path]:
    """Paths by folder and name in the order in which people count: `9.npy` before `10.npy`."""
    return sorted(paths, key=lambda path: (_key(path.parent.name), _key(path.name)))


def _key(name: str) -> list[str]:
    return [part.zfill(20) for part in re.split(r"(\d+)", name)]
