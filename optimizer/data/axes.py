"""The axes of a model's inputs whose size is not fixed, and what may be put there.

ONNX lets a dimension be a number, a symbol (the same symbol is the same size everywhere) or nothing. Exporters also
write 0, -1, "?", "None" or "dynamic" for "nothing". Such an axis is *anonymous* and gets a symbol of its own,
`input[axis]`, which is also how a user names it in `--dim`.
"""

from __future__ import annotations

import re

import onnx_ir as ir

from optimizer.model.ports import Port, inputs, outputs

_NOTHING = {"", "?", "*", "none", "null", "unknown", "unk", "dynamic", "dyn", "any", "-1", "0"}
_SEQUENCE = re.compile(r"seq|time|frame|token|len|step|past", re.IGNORECASE)


def is_open(dim: int | str | None) -> bool:
    """Whether the size of this dimension is left to the caller."""
    return not isinstance(dim, int) or dim <= 0


def symbol(port: Port, axis: int) -> str:
    """The symbol of an open axis: its own name, or `input[axis]` where it has none."""
    dim = port.shape[axis]
    if isinstance(dim, str) and dim.strip().lower() not in _NOTHING:
        return dim
    return f"{port.name}[{axis}]"


def has_rank(model: ir.Model, port: Port) -> bool:
    """Whether the number of the input's axes is known. (A port of unknown rank has the empty shape, as a scalar.)"""
    return any(value.name == port.name and value.shape is not None for value in model.graph.inputs)


def joinable(model: ir.Model) -> bool:
    """Whether samples can be joined along axis 0.

    So it is where the first axis of every input and output is open and no first axis is named like a sequence, and
    all inputs that name it give it the same name.
    """
    ports = inputs(model)
    if not ports or not all(port.shape and is_open(port.shape[0]) for port in ports):
        return False
    named = {symbol(port, 0) for port in ports} - {f"{port.name}[0]" for port in ports}
    if len(named) > 1 or any(_SEQUENCE.search(name) for name in named):
        return False
    return all(not port.shape or is_open(port.shape[0]) for port in outputs(model))
