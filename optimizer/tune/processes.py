"""Local helpers of one search: processes that take trials from the same study."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from optimizer.recipe import Run
from optimizer.tune import interrupts
from optimizer.tune.interrupts import Stop
from optimizer.tune.settings import Tune


class Crew:
    """The helping processes. Ctrl-C is the first worker's; it tells them by SIGTERM."""

    def __init__(self, members: list[BaseProcess]) -> None:
        self.members = members

    def wait(self, *, interrupted: bool) -> None:
        """Until all have ended; they are told first if the search was interrupted."""
        for member in self.members:
            if interrupted:
                member.terminate()
        for member in self.members:
            member.join()


@contextlib.contextmanager
def helpers(count: int, source: Path, settings: Tune, run: Run, place: str) -> Iterator[Crew]:
    """`count` processes that join the search; they are told to end when this ends, however it does."""
    context = multiprocessing.get_context("spawn")
    given = (source, settings, run, place)
    crew = Crew([context.Process(target=_help, args=given, daemon=True) for _ in range(count)])
    with interrupts.ignored():
        for member in crew.members:
            member.start()
    try:
        yield crew
    finally:
        for member in crew.members:
            member.terminate()


def _help(source: Path, settings: Tune, run: Run, place: str) -> None:
    from optimizer.errors import OptimizeError
    from optimizer.tune.search import join

    # Ctrl-C comes to all processes of a terminal. Heard here, it would make the SIGTERM that follows the second signal,
    # which cuts the giving back of a trial in two. What errors there are, the first worker meets and tells too.
    stop = Stop(_orphaned)
    with contextlib.suppress(OptimizeError, KeyboardInterrupt), interrupts.caught(stop, [signal.SIGTERM]):
        join(source, settings, run, place, stop)


def _orphaned() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
