"""`optimize finetune STUDENT --teacher MODEL` and `optimize distill TEACHER STUDENT`: one engine."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from optimizer.cli import options, outcome
from optimizer.cli.given import Given
from optimizer.recipe import Finetune

Data = Annotated[
    Optional[str], typer.Option("--data", help="Samples to learn from; labels are not needed.", show_default=False)
]
Student = Annotated[Path, typer.Argument(metavar="STUDENT", help="The model to tune.", show_default=False)]
Teacher = Annotated[Path, typer.Argument(metavar="TEACHER", help="The model to learn from.", show_default=False)]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Threads of torch and ONNX Runtime; 0: all cores.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a killed run left off.")]
Epochs = Annotated[
    Optional[int], typer.Option(help="Passes over the samples.", show_default="about 2,000 steps, at least 3")
]
Minutes = Annotated[
    Optional[float], typer.Option(help="Train no longer than this.", show_default="2.5, or any with --epochs")
]
Rate = Annotated[
    Optional[float],
    typer.Option("--lr", help="Highest learning rate; adamw: as a share of the weights.", show_default="tried out"),
]
Optimizer = Annotated[Literal["adamw", "sgd"], typer.Option(help="How weights move.")]
Batch = Annotated[int, typer.Option(help="Samples per step.")]
Warmup = Annotated[float, typer.Option(help="Share of the steps over which the rate rises.")]
Clip = Annotated[float, typer.Option(help="The longest gradient; 0: any.")]
Decay = Annotated[float, typer.Option(help="Weight decay.")]
Average = Annotated[float, typer.Option("--ema", help="Decay of the running average that is kept; 0: none.")]
Patience = Annotated[int, typer.Option(help="Evaluations (of about 20) without gain before it stops.")]
Holdout = Annotated[float, typer.Option(help="Share of the samples that only judges.")]
Loss = Annotated[Literal["auto", "kl", "mse", "cosine"], typer.Option(help="How outputs are compared.")]
Temperature = Annotated[float, typer.Option(help="Of the kl loss.")]
Labels = Annotated[float, typer.Option(help="Weight of the labels' cross-entropy.")]
Features = Annotated[float, typer.Option(help="How much tensors inside that both have count; the outputs count 1.")]
Outputs = Annotated[Optional[list[str]], typer.Option(help="Learn only from outputs like this GLOB.")]
Augment = Annotated[str, typer.Option(help="none, auto, or e.g. flip,rotate=10,scale=0.9:1.1,noise=0.05.")]
Metric = Annotated[Optional[str], typer.Option(help="How the result is judged.", show_default="by the outputs")]


def finetune(
    context: typer.Context,
    student: Student,
    teacher: Annotated[
        Optional[Path],
        typer.Option("--teacher", help="The model to learn from.", show_default="what the configuration names"),
    ] = None,
    data: Data = None,
    output: options.Output = None,
    force: options.Force = False,
    resume: Resume = False,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    threads: Threads = 0,
    epochs: Epochs = None,
    minutes: Minutes = None,
    lr: Rate = None,
    optimizer: Optimizer = "adamw",
    batch: Batch = 16,
    warmup: Warmup = 0.05,
    clip: Clip = 1.0,
    weight_decay: Decay = 0.0,
    ema: Average = 0.99,
    patience: Patience = 20,
    holdout: Holdout = 0.2,
    loss: Loss = "auto",
    temperature: Temperature = 2.0,
    labels: Labels = 0.0,
    features: Features = 2.5,
    outputs: Outputs = None,
    augment: Augment = "auto",
    metric: Metric = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    report: options.Reports = None,
    config: options.Config = None,
) -> None:
    """Win back what compression lost: the student learns to answer as the teacher does."""
    _tune(context)


def distill(
    context: typer.Context,
    teacher: Teacher,
    student: Student,
    data: Data = None,
    output: options.Output = None,
    force: options.Force = False,
    resume: Resume = False,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    threads: Threads = 0,
    epochs: Epochs = None,
    minutes: Minutes = None,
    lr: Rate = None,
    optimizer: Optimizer = "adamw",
    batch: Batch = 16,
    warmup: Warmup = 0.05,
    clip: Clip = 1.0,
    weight_decay: Decay = 0.0,
    ema: Average = 0.99,
    patience: Patience = 20,
    holdout: Holdout = 0.2,
    loss: Loss = "auto",
    temperature: Temperature = 2.0,
    labels: Labels = 0.0,
    features: Features = 2.5,
    outputs: Outputs = None,
    augment: Augment = "auto",
    metric: Metric = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    report: options.Reports = None,
    config: options.Config = None,
) -> None:
    """The same as finetune, for a student of any architecture: it learns to answer as the teacher does."""
    _tune(context)


def _tune(context: typer.Context) -> None:
    """Both commands take the same options, by name, and differ in how the models are given."""
    params = context.params
    given, told = Given(context, params["config"]), outcome.of(params["as_json"], params["quiet"], params["report"])
    fields = {field.name: params[field.name] for field in dataclasses.fields(Finetune)}
    step = given.step(Finetune, {**fields, "outputs": tuple(params["outputs"] or ())})
    threads = params["threads"] or os.cpu_count() or 1
    run = given.run(params["data"], params["samples"], params["seed"], threads)
    teacher = given.model(params["teacher"])
    from optimizer.pipeline import finetune as pipeline

    told.of(
        lambda progress: pipeline.finetune(
            params["student"],
            teacher,
            step,
            run,
            output=params["output"],
            force=params["force"],
            resume=params["resume"],
            command=context.info_name or "finetune",
            progress=progress,
        )
    )
