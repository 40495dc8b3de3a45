"""Whether the worker that runs a trial is alive: it says so in the storage again and again, and others watch that.

*Dead* is a worker whose heartbeat has not changed for `Pace.grace` seconds as the observer's own clock has it (clocks
are never compared), or whose process is gone from this machine.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ALIVE = "alive"
"""The attribute of a trial that holds its worker's heartbeat: who, and how often so far."""


@dataclasses.dataclass(frozen=True)
class Pace:
    """Seconds between heartbeats, without one until a worker counts as dead, and between looks for work."""

    beat: float = 15.0
    grace: float = 60.0
    look: float = 2.0


class Watch:
    """One observer's memory of heartbeats."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._seen: dict[int, tuple[Any, float]] = {}

    def sees_dead(self, number: int, alive: Any) -> bool:
        """Whether the worker of trial `number`, whose heartbeat is now `alive`, is dead."""
        now = time.monotonic()
        seen = self._seen.get(number)
        if seen is None or seen[0] != alive:
            seen = self._seen[number] = alive, now
        return (alive is not None and gone(alive[0])) or now - seen[1] > self.grace


@contextmanager
def heartbeats(trial: Any, storage: Any, seconds: float) -> Iterator[None]:
    """Heartbeats for a trial every so many seconds, in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(trial, storage, seconds, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _beat(trial: Any, storage: Any, seconds: float, stop: threading.Event) -> None:
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

    count = 0
    while not stop.wait(seconds):
        count += 1
        try:
            trial.set_user_attr(ALIVE, [owner(), count])
        except UpdateFinishedTrialError:
            return
        except StorageInternalError:  # the next one may get through
            continue
        finally:
            storage.remove_session()


def owner() -> str:
    """This process, so that others on the same machine can see whether it is there."""
    space = Path("/proc/self/ns/pid")
    return f"{platform.node()}:{space.readlink() if space.exists() else ''}:{os.getpid()}"


def gone(other: str) -> bool:
    """Whether the process `other` is known to have ended; False where it cannot be known."""
    place, _, number = other.rpartition(":")
    if os.name != "posix" or place != owner().rpartition(":")[0]:
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
