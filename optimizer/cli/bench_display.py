"""Benchmarks on a terminal: one table a candidate, or one JSON document for all."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from optimizer.report import rows, why
from optimizer.report.document import document
from optimizer.report.records import Result

_COLOURS = {"faster": "green", "slower": "red", "passed": "green", "missed": "red", "inconclusive": "yellow"}


def show(results: Sequence[Result], *, as_json: bool, quiet: bool) -> None:
    """Print `results` the way the user asked for."""
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        sys.stderr.write(f"warning: {warning}\n")
    if as_json:
        sys.stdout.write(json.dumps(document(results), indent=2) + "\n")
    elif not quiet:
        console = Console(highlight=False)
        for result in results:
            _print(console, result)
        console.print(rows.machine(results[0].machine), style="dim")


def _print(console: Console, result: Result) -> None:
    console.print(f"{result.input} against {result.output}", style="bold", markup=False)
    console.print(_table(result))
    if result.latency_ms is not None:
        console.print(rows.verdict(result.latency_ms), style=_COLOURS[result.latency_ms.verdict])
    for listing in why.listings(result):
        console.print(f"\n{listing.title}", style="bold", markup=False)
        console.print(_listing(listing))
    for gate in result.gates:
        console.print(f"{gate.status}: {gate.condition}: {gate.message}", style=_COLOURS[gate.status], markup=False)


def _table(result: Result) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right")
    for row in rows.rows(result):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _listing(listing: why.Listing) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for number, name in enumerate(listing.columns):
        table.add_column(name, justify="left" if number < 1 else "right", overflow="fold")
    for row in listing.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
