"""`optimize inspect MODEL`: what can be pruned, what hangs together, and what is frozen by which op."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from optimizer.cli import options
from optimizer.cli.given import Given

if TYPE_CHECKING:
    from optimizer.pipeline.importance import Importance
    from optimizer.pipeline.inspect import Inspection


_WIDE = 140
"""Columns where nobody watches."""


def inspect(
    context: typer.Context,
    model: options.Model = None,
    importance: Annotated[
        bool, typer.Option("--importance", help="Measure how much every channel, head, neuron and block matters.")
    ] = False,
    data: options.Data = None,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    threads: options.Threads = 1,
    dim: options.Dims = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    report: Annotated[
        Optional[list[Path]],
        typer.Option("--report", metavar="FILE", help="Write a report too: .html or .md. Repeatable."),
    ] = None,
    config: options.Config = None,
) -> None:
    """List the channel groups of a model, what each ties together, and why the rest is frozen."""
    given = Given(context, config)
    source, run = given.model(model), given.run(data, samples, seed, threads, dim)
    options.hold_numpy(run.threads)
    from optimizer.cli import display
    from optimizer.pipeline.importance import importance as measure
    from optimizer.pipeline.inspect import inspect as look
    from optimizer.report import survey, write

    survey.check(report or [])
    write.check(report or [])
    found = look(source)
    if importance:
        with display.progress(quiet or as_json) as progress:
            found = dataclasses.replace(found, importance=measure(source, run, progress=progress))
    document = found.to_json()
    for path in report or []:
        write.put(path, survey.FORMATS[path.suffix](document))
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif not quiet:
        _print(found, document)


def _print(found: Inspection, document: dict[str, Any]) -> None:
    from rich.console import Console

    from optimizer.ops.axes import STATISTICS
    from optimizer.report import survey

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, width=_WIDE)
    words = "MACs, where open sizes count as 1" if found.open else "MACs"
    console.print(
        f"{found.params:,} parameters, {found.prunable:,} of them in tensors that can shrink; {found.macs:,} {words}"
    )
    if found.importance is not None:
        _print_importance(console, found.importance)
        return
    groups = [(g.name, g.kind, g.size, f"{g.params:,}", survey.few(g.tensors)) for g in found.groups]
    if groups:
        console.print(_table(("group", "kind", "size", "parameters", "ties together"), groups))
    else:
        console.print("no channel, head or neuron can go")
    for listing in survey.frozen(document["frozen"]):
        console.print("\nfrozen", style="bold")
        console.print(_table(listing.columns, listing.rows))
    if any(STATISTICS in frozen.reason for frozen in found.frozen):
        console.print("\n`optimize prune --lossy` lets norms lose channels too; their statistics then change")


def _print_importance(console: Any, found: Importance) -> None:
    how = "noise that a share of it makes at the outputs" if found.measured else f"by {found.criterion}, without data"
    console.print(f"importance of groups: {how}")
    columns = (
        "group",
        "kind",
        "size",
        "MACs of half",
        *(f"{part:.1%} gone" for part in found.parts),
        "labels by score",
    )
    groups = [
        (g.name, g.kind, len(g.scores), f"{g.macs:,}", *(f"{cost:.2e}" for cost in g.costs), _line(g.scores))
        for g in found.groups
    ]
    console.print(_table(columns, groups, whole=True))
    if found.blocks:
        console.print("\nblocks that could be skipped", style="bold")
        console.print(_table(("block", "change of the outputs"), [(b.name, f"{b.change:.2e}") for b in found.blocks]))


def _line(scores: tuple[float, ...], most: int = 16) -> str:
    """The scores from least to most as a line of bars, each a mean over neighbours."""
    ranked, count = sorted(scores), min(most, len(scores))
    parts = [ranked[i * len(ranked) // count : (i + 1) * len(ranked) // count] for i in range(count)]
    means = [sum(part) / len(part) for part in parts]
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * mean / max(means[-1], 1e-30)))] for mean in means)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], whole: bool = False) -> Any:
    """A table whose cells are folded where it is too wide; with `whole` only those of the first column are."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=whole and index > 0)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
