"""The commands' help: what an option takes is named in capitals, and each command ends with an example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer.core

if TYPE_CHECKING:
    from typer._click.core import Context
    from typer._click.formatting import HelpFormatter

EXAMPLES = {
    "quantize": "optimize quantize model.onnx --data samples.npz --max-drop 1%",
    "prune": "optimize prune model.onnx --macs 0.5 --data samples.npz",
    "finetune": "optimize finetune model.pruned.onnx --teacher model.onnx --data samples.npz",
    "distill": "optimize distill large.onnx small.onnx --data samples.npz",
    "tune": "optimize tune model.onnx --data samples.npz --max-drop 1% --minutes 30",
    "bench": "optimize bench model.onnx model.int8.onnx --fail-if 'latency > 1x'",
    "inspect": "optimize inspect model.onnx",
    "run": "optimize run optimize.toml --report report.html",
}

SHORT = {
    "quantize": "int8 where it is faster, float elsewhere",
    "prune": "remove channels, heads and blocks, or zero single weights",
    "finetune": "learn to answer like the original again",
    "distill": "the same, for a student of any architecture",
    "tune": "search for the best recipe within a bound",
    "run": "carry out the recipe in optimize.toml, with its gates",
    "bench": "compare speed, memory, size and answers, with gates",
    "inspect": "what can be pruned, and what is frozen by which op",
}
"""One line each, short enough for the list of commands."""

_NAMES = {
    "<path>": "PATH",
    "<list[Path]>": "PATH",
    "<str>": "TEXT",
    "<list[str]>": "TEXT",
    "<int>": "N",
    "<int range>": "N",
    "<float>": "X",
    "<float range>": "X",
}


class Command(typer.core.TyperCommand):
    """A command whose options say `N` where typer says `<int range>`."""

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        for option in self.params:
            if isinstance(option, typer.core.TyperOption) and option.metavar is None and not option.is_flag:
                option.metavar = _NAMES.get(option.display_type(ctx))
        super().format_help(ctx, formatter)
