"""Tensors inside the student that its teacher guides too, and how much they count.

A few hundred samples say little about a thousand class scores, and much about the tensors on the way to them: where the
graphs are alike (a pruned or quantized student has most of its teacher's tensors under their names and shapes), these
are compared as well (Romero et al., "FitNets", 2015), at up to `matching.FEATURES` places evenly spread. Only tensors
of which the student explains some of the teacher's variance already count: equal names may be chance.

    loss = outputs + w * mean over tensors of the MSE in units of the teacher's variance
    w = features * (loss of the outputs) / (mean over tensors), both of the student as it begins

so that `features` says how much they count beside the outputs, whatever kinds of losses these have.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.data.samples import Samples
from optimizer.model import shapes
from optimizer.model.ports import Array
from optimizer.train import matching
from optimizer.train.dtypes import FLOATS
from optimizer.train.teacher import Teacher, join
from optimizer.train.training import Trainer

ASKED = 32
"""Samples by which the weight is found."""
_TINY = 1e-12


def guide(trainer: Trainer, student: ir.Model, teacher: ir.Model, samples: Samples, threads: int, seed: int) -> None:
    """Let the teacher guide tensors inside, where there are some that both have.

    Where the student runs samples joined, only tensors that are joined along their first axis count.
    """
    real = _real(teacher)
    names = [name for name in matching.common_tensors(student, teacher) if name in real]
    few = [samples[0], samples[1]] if trainer.joined else [samples[0]]
    alone = Teacher(teacher, names, threads)
    wanted, found = join([alone.answer([feed]) for feed in few]), trainer.peek(join(few), names)
    spreads = {name: matching.spread(wanted[name]) for name in found}
    good = [name for name, spread in spreads.items() if _explains(found[name], wanted[name], spread)]
    if not good:
        return
    trainer.inside = {name: spreads[name] for name in matching.spaced(good)}
    trainer.teacher = Teacher(teacher, list(trainer.inside), threads)
    outputs, inside = trainer.errors(samples.pick(ASKED, seed))
    trainer.guidance = trainer.step.features * outputs / max(inside, _TINY)


def _real(model: ir.Model) -> set[str]:
    """The tensors in the main graph that are known to be of floats."""
    copy = model.clone()
    shapes.infer(copy)
    return {out.name or "" for node in copy.graph for out in node.outputs if out.dtype in FLOATS}


def _explains(own: Array, wanted: Array, spread: float) -> bool:
    with np.errstate(all="ignore"):  # masks hold infinite numbers: they explain nothing
        return own.shape == wanted.shape and float(np.square(own - wanted).mean()) < spread
