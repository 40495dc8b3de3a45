"""`optimize run [optimize.toml]`: a whole recipe with its gates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli import options, outcome
from optimizer.cli.given import Given
from optimizer.errors import ConfigError


def run(
    context: typer.Context,
    recipe: Annotated[
        Optional[Path],
        typer.Argument(
            metavar="RECIPE",
            help="File with [[steps]].",
            show_default="optimize.toml, or pyproject.toml's [tool.optimize]",
        ),
    ] = None,
    model: Annotated[
        Optional[Path], typer.Option(help="The ONNX model.", show_default="what the recipe's file names")
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
    """Carry out a recipe: its steps one after another, and one model written if all its gates hold."""
    if recipe is not None and config is not None:
        raise ConfigError("give RECIPE or --config: they are the same file")
    given, told = Given(context, recipe or config), outcome.of(as_json, quiet, report)
    if not given.config.steps:
        where = f"{given.config.file} has no steps" if given.config.file else "there is no optimize.toml here"
        raise ConfigError(f'{where}: write one as [[steps]] with do = "quantize" under it')
    source, settings = given.model(model), given.run(data, samples, seed, threads, dim)
    target = output or given.config.output
    options.hold_numpy(settings.threads)
    from optimizer.pipeline import run as pipeline

    steps = pipeline.unmeasured(given.config.steps) if no_measure else given.config.steps
    told.of(lambda progress: pipeline.run(steps, source, settings, output=target, force=force, progress=progress))
