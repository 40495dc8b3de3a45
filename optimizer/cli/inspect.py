"""`optimize inspect MODEL`: what can be pruned, what hangs together, and what is frozen by which op."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from optimizer.cli import options
from optimizer.cli.given import Given

if TYPE_CHECKING:
    from optimizer.pipeline.inspect import Inspection


def inspect(
    context: typer.Context,
    model: options.Model = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """List the channel groups of a model, what each ties together, and why the rest is frozen."""
    source = Given(context, config).model(model)
    from optimizer.pipeline.inspect import inspect as run

    found = run(source)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    elif not quiet:
        _print(found)


def _print(found: Inspection) -> None:
    from rich.console import Console

    from optimizer.ops.axes import STATISTICS

    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{found.params:,} parameters, {found.prunable:,} of them in tensors that can shrink; {found.macs:,} MACs"
    )
    groups = [(g.name, g.kind, g.size, f"{g.params:,}", _few(g.tensors)) for g in found.groups]
    if groups:
        console.print(_table(("group", "kind", "size", "parameters", "ties together"), groups))
    else:
        console.print("no channel, head or neuron can go")
    if found.frozen:
        console.print("\nfrozen", style="bold")
        console.print(_table(("because", "axes", "of"), _reasons(found)))
    if any(STATISTICS in frozen.reason for frozen in found.frozen):
        console.print("\n`optimize prune --lossy` lets norms lose channels too; their statistics then change")


def _reasons(found: Inspection) -> list[tuple[Any, ...]]:
    """The axes that each reason freezes, most first."""
    axes: dict[str, list[str]] = {}
    for frozen in found.frozen:
        axes.setdefault(frozen.reason, []).append(f"{frozen.tensor}.{frozen.axis}")
    ranked = sorted(axes.items(), key=lambda item: -len(item[1]))
    return [(reason, len(names), _few(tuple(names))) for reason, names in ranked]


def _few(names: tuple[str, ...], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
