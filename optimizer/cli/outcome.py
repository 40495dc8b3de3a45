"""What becomes of results: the terminal, the report files, and a CI run's summary page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optimizer.pipeline.common import Progress
    from optimizer.report.records import Result


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How results are to be told; made before any work, so that a report that cannot be written is refused first."""

    as_json: bool
    quiet: bool
    reports: Sequence[Path]

    def __post_init__(self) -> None:
        from optimizer.report import write

        write.check(self.reports)

    def of(self, work: Callable[[Progress], Result]) -> None:
        """Do the work and tell its result; also how close the best came where a bound is missed."""
        from optimizer.cli import display
        from optimizer.pipeline.common import Missed

        try:
            with display.progress(self.quiet or self.as_json) as progress:
                result = work(progress)
        except Missed as missed:
            self.tell([missed.result], shown=missed.result.accuracy is not None)
            raise
        self.tell([result])

    def tell(self, results: Sequence[Result], *, shown: bool = True) -> None:
        """Results on the terminal, unless there is nothing to be `shown`, and in the reports."""
        from optimizer.cli import display
        from optimizer.report import write

        display.show(results, as_json=self.as_json, quiet=self.quiet or not shown)
        write.write(results, self.reports)
        write.summarize(results)


def of(as_json: bool, quiet: bool, report: list[Path] | None) -> Outcome:
    """The outcome that the common options ask for. Raises `ConfigError` or `OutputError`."""
    return Outcome(as_json, quiet, report or [])
