"""Local helpers of one search: processes that take trials from the same study."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any


class Crew:
    """The helping processes."""

    def __init__(self, members: list[BaseProcess]) -> None:
        self.members = members

    def wait(self, *, interrupted: bool) -> None:
        """Until all have ended; they are told first if the search was interrupted."""
        for member in self.members:
            if interrupted and member.is_alive() and member.pid is not None:
                os.kill(member.pid, signal.SIGINT)
        for member in self.members:
            member.join()


@contextlib.contextmanager
def helpers(count: int, given: tuple[Any, ...]) -> Iterator[Crew]:
    """`count` processes that run `search.join(*given)`; they are gone when this ends, however it ends."""
    context = multiprocessing.get_context("spawn")
    crew = Crew([context.Process(target=_help, args=given, daemon=True) for _ in range(count)])
    for member in crew.members:
        member.start()
    try:
        yield crew
    finally:
        for member in crew.members:
            member.terminate()


def _help(*given: Any) -> None:
    from optimizer.errors import OptimizeError
    from optimizer.tune.search import join

    with contextlib.suppress(OptimizeError, KeyboardInterrupt):  # the first worker meets the same error and tells it
        join(*given)
