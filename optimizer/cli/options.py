"""Options that commands share, and how text reaches the terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.errors import ConfigError

Model = Annotated[
    Optional[Path], typer.Argument(metavar="MODEL", help="The ONNX model.", show_default="what the configuration names")
]
Config = Annotated[
    Optional[Path],
    typer.Option(
        "--config",
        metavar="FILE",
        help="File with defaults of options.",
        show_default="optimize.toml, or pyproject.toml's [tool.optimize]",
    ),
]
Output = Annotated[
    Optional[Path],
    typer.Option("-o", "--output", metavar="FILE", help="Where to write the result.", show_default="beside the input"),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing result.")]
Data = Annotated[
    Optional[str],
    typer.Option(
        "--data",
        metavar="SPEC",
        help="Samples: .npz, .npy, a folder of those or of images, or module:function.",
        show_default="synthetic inputs",
    ),
]
Samples = Annotated[Optional[int], typer.Option("--samples", min=1, help="Use this many samples.", show_default="all")]
Seed = Annotated[int, typer.Option("--seed", help="Everything but what is measured depends on it alone.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of ONNX Runtime.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print no table and no progress.")]
Reports = Annotated[
    Optional[list[Path]],
    typer.Option("--report", metavar="FILE", help="Write a report too: .html, .md, .xml (JUnit) or .json. Repeatable."),
]
Dims = Annotated[
    Optional[list[str]], typer.Option("--dim", metavar="NAME=N", help="Size of a symbolic dimension. Repeatable.")
]


def say(text: str) -> None:
    """A message to the user, on stderr."""
    sys.stderr.write(text + "\n")


def hold_numpy(threads: int) -> None:
    """Let numpy, which must not be imported yet, use no more threads than asked for, unless the user says otherwise.

    More of them wait for each other on a busy machine (1.8 times the CPU time, on two cores), and the bytes that are
    written would depend on their number.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))


def sizes(given: list[str] | None) -> tuple[tuple[str, int], ...]:
    """`["batch=8"]` as `(("batch", 8),)`. Raises `ConfigError`."""
    found = []
    for text in given or []:
        name, _, number = text.rpartition("=")
        if not name or not number.isdigit() or int(number) < 1:
            raise ConfigError(f"--dim {text!r}: write it as NAME=N with a whole number above 0, e.g. --dim batch=8")
        found.append((name, int(number)))
    return tuple(found)


def numbers(name: str, given: str | None) -> tuple[float, ...]:
    """`"0.5,0.25"` as `(0.5, 0.25)`. Raises `ConfigError`."""
    try:
        return tuple(float(part) for part in given.split(",")) if given is not None else ()
    except ValueError:
        raise ConfigError(f"{name} {given!r}: write one number or one per channel, e.g. 0.485,0.456,0.406") from None
