"""A worker: takes trials until there are enough, or the time is up, or somebody interrupts it.

Workers know of each other only through the storage. One whose trials are all being run by others waits, since one of
these may die; so the last trials are finished as long as one worker is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

from optimizer.pipeline.common import Progress
from optimizer.tune import trial as trials
from optimizer.tune.interrupts import Stop
from optimizer.tune.settings import Tune
from optimizer.tune.space import Params
from optimizer.tune.study import Study


class _Named:
    """Progress with the trial's name before each stage."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name = progress, name

    def stage(self, name: str, steps: int | None = None) -> Callable[[], None]:
        return self.progress.stage(f"{self.name}: {name}", steps)


Records: TypeAlias = "list[dict[str, Any]]"
Trial: TypeAlias = Callable[[Params, Records, Progress], "dict[str, Any]"]
"""From values and the records so far to a record."""


def work(
    run: Trial,
    settings: Tune,
    study: Study,
    progress: Progress,
    elsewhere: Callable[[], Records] = list,
    stop: Stop | None = None,
) -> bool:
    """Run trials; True if it was interrupted. `elsewhere` gives what workers on other machines have judged."""
    began, stop = time.monotonic(), stop or Stop()
    end = began + 60 * settings.minutes if settings.minutes is not None else None
    while not stop.wanted and not _too_late(study, end):
        taken = study.take(settings.total)
        if taken is not None and not _carry_out(taken, run, settings, study, progress, elsewhere, stop):
            return True
        if taken is None and study.is_done(settings.total):
            break
        if taken is None:
            time.sleep(study.pace.look)
    return stop.wanted


def _too_late(study: Study, end: float | None) -> bool:
    """Whether a trial begun now would likely end after `end`: the median one does."""
    if end is None:
        return False
    lasted = sorted(record["seconds"] for record in study.known() if "seconds" in record)
    usual = lasted[len(lasted) // 2] if lasted else 0.0
    return time.monotonic() + usual > end


def _carry_out(
    taken: Any,
    run: Trial,
    settings: Tune,
    study: Study,
    progress: Progress,
    elsewhere: Callable[[], Records],
    stop: Stop,
) -> bool:
    """Run one trial; False if it was interrupted. Whatever ends it early leaves it to others."""
    of = "" if settings.total is None else f" of {settings.total}"
    try:
        with study.alive(taken):
            params = study.values(taken)
            known = [*study.known(), *elsewhere()]
            with stop.at_once():
                record = run(params, known, _Named(progress, f"trial {taken.number + 1}{of}"))
        study.finish(taken, record, trials.values(record, settings), float(record.get("violation", 1.0)))
    except KeyboardInterrupt:
        study.give_back(taken, died=False)
        return False
    except BaseException:
        study.give_back(taken, died=False)
        raise
    return True
