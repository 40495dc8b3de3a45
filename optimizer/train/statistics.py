"""The stored statistics of batch normalization, taken anew from samples.

A student with new weights, or much changed ones, still holds the means and variances of what it was: nothing that it
computes is normalized, and little can be learnt. One pass in training mode, over samples joined as one batch, finds
those of the student as it is; each layer sees what the layers before it answer with theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import onnx_ir as ir

from optimizer.data.samples import Samples
from optimizer.train.constants import constants
from optimizer.train.dtypes import to_numpy, to_torch
from optimizer.train.evaluator import Evaluator
from optimizer.train.table import key
from optimizer.train.teacher import join, shapes
from optimizer.train.training import Trainer

ASKED = 64
_FIRST, _LAST = 3, 5
"""Where the mean and the variance stand among the inputs of a BatchNormalization."""


def settled(student: ir.Model, trainer: Trainer, samples: Samples, seed: int) -> ir.Model | None:
    """A clone of `student` with the statistics of `samples` (as `trainer` feeds it), None where there are none to take:
    no such layer, or samples that cannot be joined."""
    feeds = list(samples.pick(ASKED, seed))
    if not trainer.joined or not any(_layers(student)) or any(shapes(feed) != shapes(feeds[0]) for feed in feeds):
        return None
    watched, tuned = student.clone(), student.clone()
    names = [_watched(node, number) for number, node in enumerate(_layers(watched))]
    evaluator = Evaluator(watched, list(itertools.chain(*names)))
    torch = evaluator.torch
    with torch.no_grad():
        feed = trainer.inputs.feed(join(feeds))
        found = evaluator.run({name: to_torch(torch, array) for name, array in feed.items()})
    held = {constant.value: constant for constant in constants(tuned).values()}
    for node, pair in zip(_layers(tuned), names, strict=True):
        for value, name in zip(node.inputs[_FIRST:_LAST], pair, strict=True):
            if value in held:
                held[value].replace(to_numpy(found[name], held[value].dtype))
    return tuned


def _layers(model: ir.Model) -> Iterator[ir.Node]:
    return (node for node in model.graph if key(node) == "BatchNormalization")


def _watched(node: ir.Node, number: int) -> list[str]:
    """Put a layer into training mode, keeping nothing of its own statistics; the names that the new ones get."""
    node.attributes["training_mode"] = ir.AttrInt64("training_mode", 1)
    node.attributes["momentum"] = ir.AttrFloat32("momentum", 0.0)
    node.resize_outputs(3)
    names = [f"statistics {number} {part}" for part in ("mean", "variance")]
    for value, name in zip(node.outputs[1:], names, strict=True):
        value.name = name
    return names
