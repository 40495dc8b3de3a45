"""`optimize inspect`: the channel groups of a model and its frozen axes, as records."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from optimizer.model import cleanup, io
from optimizer.pipeline.importance import Importance
from optimizer.prune import prepare
from optimizer.prune.groups import Axes, Group, analyse
from optimizer.prune.sizes import Sizes
from optimizer.report.records import SCHEMA_VERSION, FrozenAxis, to_json
from optimizer.runtime.told import tell


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """One channel group: what it is called, how many labels it has, the parameters it touches, and the tensor axes."""

    name: str
    kind: str
    size: int
    params: int
    tensors: tuple[str, ...]
    """`tensor.axis` of every axis that shrinks with the group."""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What pruning could do to a model."""

    model: str
    params: int
    prunable: int
    macs: int
    groups: tuple[GroupRow, ...]
    frozen: tuple[FrozenAxis, ...]
    open: bool
    """Whether the inputs leave sizes open besides the batch; they count as 1 in `macs`, since nothing is run."""
    importance: Importance | None = None

    def to_json(self) -> dict[str, Any]:
        """One JSON document."""
        return {"schema_version": SCHEMA_VERSION, "command": "inspect", **to_json(self)}


def inspect(path: Path | str) -> Inspection:
    """Analyse the model at `path`; nothing is run. Raises `UserError`."""
    model = io.load(path)
    tell(model)
    cleanup.clean(model)
    axes = analyse(prepare.prepare(model))
    sizes = Sizes(axes)
    rows = tuple(_row(axes, group) for group in axes.groups)
    inputs = (value.shape for value in model.graph.inputs if value.shape is not None)
    left_open = any(not isinstance(dim, int) for shape in inputs for dim in shape[1:])
    return Inspection(str(path), sizes.params, sizes.prunable, sizes.macs, rows, axes.frozen(), left_open)


def _row(axes: Axes, group: Group) -> GroupRow:
    tensors = {value: value.const_value for value, _ in group.places}
    params = sum(math.prod(tensor.shape.numpy()) for tensor in tensors.values() if tensor is not None)
    return GroupRow(group.name, group.kind, len(group.labels), params, tuple(f"{v.name}.{i}" for v, i in group.places))
