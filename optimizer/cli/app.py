"""The application: its commands, and the exit statuses of the contract.

0 done and within bounds, 1 a bound or gate was missed, 2 bad usage, file, data or configuration, 3 our own fault.
Commands are thin: what computes is imported only when one of them runs.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

import typer

from optimizer.cli import bench, finetune, inspect, options, prune, quantize, tune
from optimizer.cli import run as run_command
from optimizer.cli.help import EXAMPLES, SHORT, Command
from optimizer.errors import OptimizeError

app = typer.Typer(
    name="optimize",
    help="Make ONNX models small and fast on CPU, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "quantize": quantize.quantize,
    "prune": prune.prune,
    "finetune": finetune.finetune,
    "distill": finetune.distill,
    "tune": tune.tune,
    "run": run_command.run,
    "bench": bench.bench,
    "inspect": inspect.inspect,
}
for _name, _function in COMMANDS.items():
    app.command(_name, cls=Command, short_help=SHORT[_name], epilog=f"Example: {EXAMPLES[_name]}")(_function)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"optimize {version('optimize-onnx')}")
        raise typer.Exit


@app.callback()
def _common(
    show_version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Make ONNX models small and fast on CPU, with proof."""


def run() -> None:
    """Parse the command line, run the command, and exit with the contract's status."""
    try:
        app()
    except OptimizeError as error:
        options.say(f"optimize: {error}")
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort: a user never sees a traceback
        _own_fault(error)


def _own_fault(error: Exception) -> None:
    place = traceback.extract_tb(error.__traceback__)[-1]
    options.say(
        f"optimize: internal error: {type(error).__name__}: {error} ({place.filename}:{place.lineno})\n"
        f"This is our fault. Please report it with the command line and, if you can, the model."
    )
    sys.exit(3)
