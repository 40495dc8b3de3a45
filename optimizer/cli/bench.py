"""`optimize bench BASELINE [CANDIDATE ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from optimizer.cli import options, outcome
from optimizer.cli.given import Given
from optimizer.errors import ConfigError
from optimizer.recipe import Bench


def bench(
    context: typer.Context,
    original: Annotated[
        Optional[Path],
        typer.Argument(
            metavar="BASELINE", help="The ONNX model to compare with.", show_default="what the configuration names"
        ),
    ] = None,
    candidates: Annotated[
        Optional[list[Path]],
        typer.Argument(
            metavar="CANDIDATE", help="The models to compare with it.", show_default="itself, for the noise"
        ),
    ] = None,
    data: options.Data = None,
    samples: options.Samples = None,
    metric: Annotated[
        Optional[str],
        typer.Option(help="top1, agreement, cosine, sqnr, max_error or MODULE:FUNC.", show_default="by the outputs"),
    ] = None,
    fail_if: Annotated[
        Optional[list[str]],
        typer.Option(
            "--fail-if",
            metavar="GATE",
            help="A gate, e.g. 'latency > 1.05x', 'drop > 1%'. Repeatable.",
            show_default=False,
        ),
    ] = None,
    inconclusive: Annotated[
        Literal["pass", "fail"], typer.Option(help="What becomes of a gate that the measurement cannot decide.")
    ] = "fail",
    per_op: Annotated[bool, typer.Option("--per-op", help="Show where time is gained and lost, and accuracy.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Measure peak memory, load time and first run.")] = False,
    runs: Annotated[str, typer.Option(help="Timed rounds: a number, or auto (as many as it takes).")] = "auto",
    time_budget: Annotated[float, typer.Option(help="Seconds of timing for each candidate at most.")] = 20.0,
    threads: options.Threads = 1,
    batch: Annotated[int, typer.Option(min=1, help="Samples in one run.")] = 1,
    dim: options.Dims = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Callers that run the model at once.")] = 1,
    spin: Annotated[bool, typer.Option("--spin", help="Let idle threads spin, as in production.")] = False,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Time nothing: sizes and answers alone.")] = False,
    save_baseline: Annotated[
        Optional[Path], typer.Option(help="Write the last model's figures to this file.", show_default=False)
    ] = None,
    baseline: Annotated[
        Optional[Path], typer.Option("--baseline", help="Compare with the figures in this file.", show_default=False)
    ] = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    report: options.Reports = None,
    config: options.Config = None,
) -> None:
    """Compare models in speed, memory, size and answers; fail if a gate is missed."""
    given, told = Given(context, config), outcome.of(as_json, quiet, report)
    fields = {
        "metric": metric,
        "fail_if": tuple(fail_if or ()),
        "inconclusive": inconclusive,
        "per_op": per_op,
        "memory": memory,
        "runs": _runs(runs),
        "time_budget": time_budget,
        "batch": batch,
        "concurrency": concurrency,
        "spin": spin,
        "save_baseline": save_baseline,
        "baseline": baseline,
        "measure": not no_measure,
    }
    step, run = given.step(Bench, fields), given.run(data, samples, seed, threads, dim)
    first, others = given.models(original, candidates or [], alone=step.baseline is not None)
    from optimizer.bench import compare, gates
    from optimizer.cli import display

    with display.progress(quiet or as_json) as progress:
        results = compare.bench(first, others, step, run, progress=progress)
    told.tell(results)
    gates.enforce(results, step.inconclusive)


def _runs(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--runs {text!r}: give a whole number above 0, or auto")
    return int(text)
