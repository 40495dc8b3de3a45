"""`optimize quantize MODEL`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from optimizer.cli import options, outcome
from optimizer.cli.given import Given
from optimizer.recipe import Calibration, Mode, Quantize, Recover, Target, share


def quantize(
    context: typer.Context,
    model: options.Model = None,
    output: options.Output = None,
    force: options.Force = False,
    data: options.Data = None,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    threads: options.Threads = 1,
    dim: options.Dims = None,
    mode: Annotated[Mode, typer.Option(help="What to quantize; auto measures and picks.")] = "auto",
    calibration: Annotated[Calibration, typer.Option(help="How ranges are found.")] = "mse",
    recover: Annotated[Recover, typer.Option(help="How much accuracy repair to do.")] = "full",
    target: Annotated[Target, typer.Option(help="The CPU that will run the result; auto: this one.")] = "auto",
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="One scale per weight, not per channel.")] = False,
    bits: Annotated[
        Optional[int], typer.Option(help="With --mode weights: products by constants take weights of 4 or 8 bits.")
    ] = None,
    block_size: Annotated[
        Optional[int],
        typer.Option(help="With --mode weights: inputs that share a scale.", show_default="32 with --bits"),
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="int8 wherever there is a kernel, whether it pays or not.")
    ] = False,
    inputs: Annotated[
        bool, typer.Option("--inputs", help="Make the float inputs uint8: the caller sends bytes.")
    ] = False,
    mean: Annotated[
        Optional[str],
        typer.Option(help="With --inputs: a byte stands for (byte / 255 - MEAN) / STD. One number or one per channel."),
    ] = None,
    std: Annotated[Optional[str], typer.Option(help="See --mean.")] = None,
    outputs: Annotated[bool, typer.Option("--outputs", help="Make the float outputs uint8.")] = False,
    augment: Annotated[
        Optional[str],
        typer.Option(
            help="Calibrate on ten times the samples, changed: flip,rotate=10,noise=0.05 ...", show_default="none"
        ),
    ] = None,
    max_drop: Annotated[
        Optional[str], typer.Option(help="The most that accuracy may fall, e.g. 1%.", show_default="no bound")
    ] = None,
    metric: Annotated[
        Optional[str],
        typer.Option(help="top1, agreement, cosine, sqnr, max_error or MODULE:FUNC.", show_default="by the outputs"),
    ] = None,
    only: Annotated[Optional[list[str]], typer.Option(help="Quantize only nodes or ops like this GLOB.")] = None,
    exclude: Annotated[Optional[list[str]], typer.Option(help="Leave nodes or ops like this GLOB in float.")] = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Time nothing; the same input gives the same bytes.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    report: options.Reports = None,
    config: options.Config = None,
) -> None:
    """Make a model int8: faster and smaller, with its accuracy checked."""
    given, told = Given(context, config), outcome.of(as_json, quiet, report)
    fields = {
        "mode": mode,
        "calibration": calibration,
        "recover": recover,
        "target": target,
        "per_tensor": per_tensor,
        "bits": bits,
        "block_size": block_size,
        "everywhere": everywhere,
        "inputs": inputs,
        "mean": options.numbers("--mean", mean),
        "std": options.numbers("--std", std),
        "outputs": outputs,
        "augment": augment,
        "max_drop": share(max_drop) if max_drop is not None else None,
        "metric": metric,
        "only": tuple(only or ()),
        "exclude": tuple(exclude or ()),
        "measure": not no_measure,
    }
    source, step, run = given.model(model), given.step(Quantize, fields), given.run(data, samples, seed, threads, dim)
    options.hold_numpy(run.threads)
    from optimizer.pipeline import quantize as pipeline

    told.of(lambda progress: pipeline.quantize(source, step, run, output=output, force=force, progress=progress))
