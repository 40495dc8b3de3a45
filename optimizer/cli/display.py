"""Results on a terminal: one table, or one JSON document; progress on stderr, only where somebody watches."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from optimizer.pipeline.common import Progress, Silent
from optimizer.report.records import Result, to_json


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


def show(result: Result, *, as_json: bool, quiet: bool, reports: Sequence[Path]) -> None:
    """Print `result` the way the user asked for."""
    for warning in result.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if as_json:
        sys.stdout.write(json.dumps(to_json(result), indent=2) + "\n")
    elif not quiet:
        Console(highlight=False).print(table(result))


def table(result: Result) -> Table:
    """Before against after, one figure a row."""
    found = Table(title=None, show_edge=False, pad_edge=False)
    found.add_column(result.command)
    for name in ("before", "after", "change"):
        found.add_column(name, justify="right")
    for row in _rows(result):
        found.add_row(*row)
    return found


def _rows(result: Result) -> Iterator[tuple[str, str, str, str]]:
    size, params, macs = result.size_bytes, result.params, result.macs
    yield "size", megabytes(size.before), megabytes(size.after), ratio(size.before, size.after)
    yield "parameters", count(params.before), count(params.after), ratio(params.before, params.after)
    yield "MACs", count(macs.before), count(macs.after), ratio(macs.before, macs.after)
    if result.latency_ms is not None:
        found = result.latency_ms
        for name in ("p50", "p90", "p99"):
            before, after = getattr(found.before, name), getattr(found.after, name)
            yield f"latency {name}", f"{before:.2f} ms", f"{after:.2f} ms", ""
        low, high = found.ci95
        yield "speed-up", "", f"{found.speedup:.2f}x", f"{low:.2f} to {high:.2f}, {found.verdict}"
    if result.accuracy is not None:
        grade = result.accuracy
        yield grade.metric, f"{grade.before:.4f}", f"{grade.after:.4f}", f"{-grade.drop:+.4f}"
        yield "SQNR", "", f"{grade.sqnr_db:.1f} dB", f"{grade.samples} samples"


def megabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def count(number: int) -> str:
    """A large number for people."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.2f} {unit}"
    return str(number)


def ratio(before: float, after: float) -> str:
    """`after` as a share of `before`."""
    return f"{after / before:.2f}x" if before else ""
