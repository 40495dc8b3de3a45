"""Results on a terminal: a table each, or one JSON document; progress on stderr, only where somebody watches."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from optimizer.pipeline.common import Progress, Silent
from optimizer.report import rows, why
from optimizer.report.document import document
from optimizer.report.records import Result

LOG_WIDTH = 200
"""Columns of output that is no terminal's: a log scrolls, and names in it should be whole."""
SHORTEST_NAME = 12
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


def show(results: Sequence[Result], *, as_json: bool, quiet: bool) -> None:
    """Print what a command found out, the way the user asked for."""
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        sys.stderr.write(f"warning: {warning}\n")
    if as_json:
        sys.stdout.write(json.dumps(document(results), indent=2) + "\n")
    elif not quiet:
        console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else LOG_WIDTH)
        for result in results:
            _print(console, result)
        console.print(rows.machine(results[0].machine), style="dim", markup=False)


def _print(console: Console, result: Result) -> None:
    if result.command == "bench":
        console.print(f"{result.input} against {result.output}", style="bold", markup=False)
    for step in result.steps:
        console.print(step, style="dim", markup=False)
    console.print(_table(("", "before", "after", "change"), rows.rows(result)))
    if result.latency_ms is not None:
        console.print(rows.verdict(result.latency_ms), style=COLOURS[result.latency_ms.verdict])
    for listing in why.listings(result):
        console.print(f"\n{listing.title}", style="bold", markup=False)
        console.print(_table(listing.columns, _fitted(listing.rows, console.width)))
    for gate in result.gates:
        console.print(f"{gate.status}: {gate.condition}: {gate.message}", style=COLOURS[gate.status], markup=False)
    if result.output is not None and result.command != "bench":
        console.print(f"wrote {result.output}", markup=False)


def _fitted(body: Sequence[Sequence[str]], width: int) -> list[Sequence[str]]:
    """Rows whose first cells, the names, lose their beginnings where the table would be wider than `width`."""
    others = sum(max(map(len, column)) + len(" │ ") for column in list(zip(*body, strict=True))[1:])
    room = max(SHORTEST_NAME, width - others)
    return [(name if len(name) <= room else f"…{name[1 - room :]}", *rest) for name, *rest in body]


def _table(columns: Sequence[str], body: Iterable[Sequence[str]]) -> Table:
    found = Table(show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        found.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in body:
        found.add_row(*(Text(cell) for cell in row))
    return found
