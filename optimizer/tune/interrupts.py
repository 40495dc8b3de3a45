"""Ctrl-C (and SIGTERM) as the wish to end well: the trial in hand is given back, what was found is written.

| when it comes                        | what it does                                                     |
|--------------------------------------|------------------------------------------------------------------|
| inside a trial                       | ends the trial at once                                           |
| between trials, or while concluding  | is kept: no more trials begin; what is being written is written  |
| for the second time                  | ends whatever is going on; the study stays as it is              |

So no change of the study is ever cut in two by the first one.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


def _never() -> bool:
    return False


class Stop:
    """Whether to end. `orphaned` tells of another reason to."""

    def __init__(self, orphaned: Callable[[], bool] = _never) -> None:
        self.orphaned = orphaned
        self._told, self._inside = False, False

    @property
    def wanted(self) -> bool:
        """Whether no more trials should begin."""
        return self._told or self.orphaned()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What may be ended anywhere in it, by a `KeyboardInterrupt`."""
        self._inside = True
        try:
            if self._told:
                raise KeyboardInterrupt
            yield
        finally:
            self._inside = False

    def tell(self, number: int = 0, frame: FrameType | None = None) -> None:
        """What the signal does."""
        again, self._told = self._told, True
        if again or self._inside:
            raise KeyboardInterrupt


@contextmanager
def caught(stop: Stop, numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[Stop]:
    """Signals tell `stop` while this lasts; only the main thread can have that."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.tell) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ignored() -> Iterator[None]:
    """Processes started while this lasts do not hear of Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
