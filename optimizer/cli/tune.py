"""`optimize tune MODEL --data SPEC`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from optimizer.cli import options, outcome
from optimizer.cli.given import Given
from optimizer.recipe import share


def tune(
    context: typer.Context,
    model: options.Model = None,
    data: Annotated[
        Optional[str], typer.Option("--data", help="Samples to search with; labels help.", show_default=False)
    ] = None,
    output: options.Output = None,
    force: options.Force = False,
    max_drop: Annotated[str, typer.Option(help="The most that accuracy may fall.")] = "1%",
    objective: Annotated[Literal["latency", "size"], typer.Option(help="What the best has least of.")] = "latency",
    metric: Annotated[
        Optional[str],
        typer.Option(help="top1, agreement, cosine, sqnr, max_error or MODULE:FUNC.", show_default="by the outputs"),
    ] = None,
    trials: Annotated[
        Optional[int], typer.Option(help="Trials in all, earlier ones included.", show_default="40, or by --minutes")
    ] = None,
    minutes: Annotated[Optional[float], typer.Option(help="Begin no trial after this.", show_default="any")] = None,
    train: Annotated[bool, typer.Option("--train", help="Recipes may train (extra `train`); slower.")] = False,
    storage: Annotated[
        Optional[str],
        typer.Option(help="Where workers meet: postgresql://... or a journal file.", show_default="beside the output"),
    ] = None,
    study: Annotated[
        Optional[str], typer.Option(help="The study's name in the storage.", show_default="the model's")
    ] = None,
    workers: Annotated[int, typer.Option(help="Local processes.")] = 1,
    front: Annotated[
        Optional[Path], typer.Option(help="Write every model of the front to this folder.", show_default=False)
    ] = None,
    cache: Annotated[
        Optional[Path], typer.Option(help="Where shared work is kept.", show_default="the user's cache")
    ] = None,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    threads: options.Threads = 1,
    dim: options.Dims = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    report: options.Reports = None,
    config: options.Config = None,
) -> None:
    """Search for the recipe (prune, train, quantize) that is best within a bound. Interrupt it and go on any time."""
    given, told = Given(context, config), outcome.of(as_json, quiet, report)
    source, run = given.model(model), given.run(data, samples, seed, threads, dim)
    options.hold_numpy(run.threads)
    from optimizer.tune.search import tune as search
    from optimizer.tune.settings import Tune

    fields = {
        "max_drop": share(max_drop),
        "objective": objective,
        "metric": metric,
        "trials": trials,
        "minutes": minutes,
        "train": train,
        "storage": storage,
        "study": study,
        "workers": workers,
        "front": front,
        "cache": cache,
    }
    settings = given.step(Tune, fields)
    try:
        told.of(lambda progress: search(source, settings, run, output=output, force=force, progress=progress))
    except KeyboardInterrupt:
        options.say("optimize: interrupted, nothing more was written; the same command goes on with what its study has")
        raise
