"""`optimize prune MODEL`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from optimizer.cli import options, outcome
from optimizer.cli.given import Given
from optimizer.errors import ConfigError
from optimizer.recipe import Criterion, Prune, Scope, share


def prune(
    context: typer.Context,
    model: options.Model = None,
    sparsity: Annotated[
        Optional[str], typer.Option(help="The share of prunable parameters that goes, e.g. 0.5.", show_default=False)
    ] = None,
    macs: Annotated[
        Optional[str], typer.Option(help="The share of multiply-accumulates that stays, e.g. 0.5.", show_default=False)
    ] = None,
    latency: Annotated[
        Optional[str], typer.Option(help="The share of the time that stays, as measured, e.g. 0.6.", show_default=False)
    ] = None,
    structured: Annotated[
        bool,
        typer.Option(
            "--structured/--unstructured", help="Remove channels, heads, blocks; or set single weights to zero."
        ),
    ] = True,
    pattern: Annotated[
        Optional[str],
        typer.Option(help="Where zeros may be: N:M, e.g. 2:4, or blocks, e.g. 4x1.", show_default="anywhere"),
    ] = None,
    mask_only: Annotated[bool, typer.Option("--mask-only", help="Write zeros and keep every shape.")] = False,
    granularity: Annotated[str, typer.Option(help="What may go: channel, head, layer.")] = "channel,head",
    criterion: Annotated[Criterion, typer.Option(help="What decides which channel goes.")] = "auto",
    repair: Annotated[
        bool, typer.Option("--repair/--no-repair", help="Fit what is left to the original's answers; needs --data.")
    ] = True,
    scope: Annotated[
        Scope, typer.Option(help="The same share of every group, or ranked over all; auto: ranked where data tells.")
    ] = "auto",
    align: Annotated[str, typer.Option(help="Keep multiples of this many channels; auto: what kernels like.")] = "auto",
    lossy: Annotated[
        bool, typer.Option("--lossy", help="Let norms lose channels too; their statistics then change.")
    ] = False,
    only: Annotated[
        Optional[list[str]], typer.Option(help="Prune only groups with a tensor, node or op like this GLOB.")
    ] = None,
    exclude: Annotated[
        Optional[list[str]], typer.Option(help="Leave groups with a tensor, node or op like this GLOB.")
    ] = None,
    max_drop: Annotated[
        Optional[str], typer.Option(help="The most that accuracy may fall, e.g. 1%.", show_default="no bound")
    ] = None,
    metric: Annotated[
        Optional[str],
        typer.Option(help="top1, agreement, cosine, sqnr, max_error or MODULE:FUNC.", show_default="by the outputs"),
    ] = None,
    output: options.Output = None,
    force: options.Force = False,
    data: options.Data = None,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    threads: options.Threads = 1,
    dim: options.Dims = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Time nothing; the same input gives the same bytes.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    report: options.Reports = None,
    config: options.Config = None,
) -> None:
    """Remove channels, heads and blocks, proved equal to setting them to zero; or set single weights to zero."""
    given, told = Given(context, config), outcome.of(as_json, quiet, report)
    fields = {
        "sparsity": share(sparsity) if sparsity is not None else None,
        "macs": share(macs) if macs is not None else None,
        "latency": share(latency) if latency is not None else None,
        "structured": structured,
        "pattern": pattern,
        "mask_only": mask_only,
        "granularity": tuple(part.strip() for part in granularity.split(",")),
        "criterion": criterion,
        "repair": repair,
        "scope": scope,
        "align": _align(align),
        "lossy": lossy,
        "max_drop": share(max_drop) if max_drop is not None else None,
        "metric": metric,
        "only": tuple(only or ()),
        "exclude": tuple(exclude or ()),
        "measure": not no_measure,
    }
    source, step, run = given.model(model), given.step(Prune, fields), given.run(data, samples, seed, threads, dim)
    options.hold_numpy(run.threads)
    from optimizer.pipeline import prune as pipeline

    told.of(lambda progress: pipeline.prune(source, step, run, output=output, force=force, progress=progress))


def _align(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--align {text!r}: give a whole number above 0, or auto")
    return int(text)
