"""Results on a terminal: one table, or one JSON document; progress on stderr, only where somebody watches."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from optimizer.pipeline.common import Progress, Silent
from optimizer.report import rows
from optimizer.report.document import document
from optimizer.report.records import Result

COLOURS = {"faster": "green", "slower": "red", "passed": "green", "missed": "red", "inconclusive": "yellow"}


class _Bars:
    """A line per stage."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars

    def stage(self, name: str, steps: int | None = None) -> Callable[[], None]:
        for task in self.bars.task_ids:
            self.bars.remove_task(task)
        task = self.bars.add_task(name, total=steps)
        return lambda: self.bars.advance(task)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """Progress bars on stderr, if that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Silent()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


def show(result: Result, *, as_json: bool, quiet: bool) -> None:
    """Print the result of a command that wrote a model, the way the user asked for."""
    for warning in result.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if as_json:
        sys.stdout.write(json.dumps(document([result]), indent=2) + "\n")
    elif not quiet:
        _print(Console(highlight=False, soft_wrap=True), result)


def table(result: Result) -> Table:
    """Before against after, one figure a row."""
    found = Table(show_edge=False, pad_edge=False)
    found.add_column("")
    for name in ("before", "after", "change"):
        found.add_column(name, justify="right")
    for row in rows.rows(result):
        found.add_row(*row)
    return found


def _print(console: Console, result: Result) -> None:
    for step in result.steps:
        console.print(step, style="dim", markup=False)
    console.print(table(result))
    if result.latency_ms is not None:
        console.print(rows.verdict(result.latency_ms), style=COLOURS[result.latency_ms.verdict])
    for gate in result.gates:
        console.print(f"{gate.status}: {gate.condition}: {gate.message}", style=COLOURS[gate.status], markup=False)
    if result.output is not None:
        console.print(f"wrote {result.output}", markup=False)
    console.print(rows.machine(result.machine), style="dim")
