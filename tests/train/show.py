"""Prints what fine-tuning wins back, measured on labelled samples that no step sees; one line per model.

    python -m tests.train.show recover MODEL --data CALIBRATION --eval LABELLED.npz [--macs 0.4] [--also UNLABELLED.npz]
    python -m tests.train.show bits MODEL --data CALIBRATION --eval LABELLED.npz [--bits 4]
    python -m tests.train.show student TEACHER STUDENT --data CALIBRATION --eval LABELLED.npz [--noise 0.7]

`recover` prunes the model to the share of its MACs, with repair, and fine-tunes it towards what it was. `bits` rounds
all its weights to so many bits, one scale per tensor, and tunes the integers that are stored (QAT). `student` draws new
random weights for STUDENT, or adds noise to those it has, and lets it learn from a teacher of another architecture. No
labels are used for learning.
MODEL may be several. The defaults are those of `optimize finetune`; `--minutes`, `--features` and `--threads` are its
options.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from optimizer.errors import BoundMissed
from optimizer.model import io
from optimizer.model.ports import Array
from optimizer.pipeline.finetune import finetune
from optimizer.pipeline.prune import prune
from optimizer.recipe import Finetune, Prune, Run
from optimizer.train.constants import Constant, constants
from tests.prune.tradeoff import top1

WEIGHTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1), "GRU": (1, 2), "LSTM": (1, 2)}
LEAST = 16
"""Fewer numbers than these are no weight worth rounding."""


def weights(model: ir.Model) -> dict[str, Constant]:
    """The constants that products and convolutions read, by key."""
    held = {constant.value: constant for constant in constants(model).values()}
    read = {node.inputs[i] for node in model.graph for i in WEIGHTS.get(node.op_type, ()) if i < len(node.inputs)}
    found = (held[value] for value in read if value in held)
    return {one.key: one for one in found if one.array().dtype == np.float32 and one.array().size >= LEAST}


def coarse(model: ir.Model, bits: int) -> ir.Model:
    """`model` with all weights rounded to `bits` bits, one scale per tensor, stored as int8 with that scale."""
    model, most = model.clone(), 2 ** (bits - 1) - 1
    for constant in weights(model).values():
        array = constant.array()
        scale = np.float32(np.abs(array).max() / most)
        whole = _held(model, np.rint(array / scale).astype(np.int8), f"{constant.key}_int{bits}")
        node = ir.node("DequantizeLinear", [whole, _held(model, np.asarray(scale), f"{constant.key}_scale")])
        node.outputs[0].name = f"{constant.key}_restored"
        constant.value.replace_all_uses_with(node.outputs[0])
        model.graph.insert_before(next(iter(model.graph)), node)
    return model


def _held(model: ir.Model, array: Array, name: str) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
    model.graph.register_initializer(value)
    return value


def restarted(model: ir.Model, seed: int) -> ir.Model:
    """`model` with random weights of the usual spread, sqrt(2 / inputs of each output)."""
    model, random = model.clone(), np.random.default_rng(seed)
    for constant in weights(model).values():
        shape = constant.array().shape
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else max(shape)
        constant.replace(random.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32))
    return model


def noisy(model: ir.Model, share: float, seed: int) -> ir.Model:
    """`model` with normal noise on all weights, of a share of each tensor's own deviation."""
    model, random = model.clone(), np.random.default_rng(seed)
    for constant in weights(model).values():
        array = constant.array()
        constant.replace((array + share * array.std() * random.normal(0, 1, array.shape)).astype(np.float32))
    return model


def tuned(given: argparse.Namespace, student: ir.Model, teacher: Path, folder: Path) -> str:
    """Float, before and after of one student, the part of what was missing that came back, and how long it took."""
    source, target = folder / "student.onnx", folder / "after.onnx"
    io.save(student, source, force=True)
    run = Run(data=_joined(given, folder), threads=given.threads, seed=given.seed)
    begun, cpu, said = time.monotonic(), time.process_time(), ""
    try:
        found = finetune(
            source, teacher, Finetune(minutes=given.minutes, features=given.features), run, output=target, force=True
        )
        after, said = io.load(target), f"  {'; '.join(found.steps)}"
    except BoundMissed as missed:
        after, said = student, f"  kept as it was: {missed}"
    times = f"{time.monotonic() - begun:.0f} s wall, {time.process_time() - cpu:.0f} s CPU"
    whole, low, high = (top1(model, given.eval) for model in (io.load(teacher), student, after))
    share = f"{(high - low) / (whole - low):.0%}" if whole > low else "-"
    return f"{teacher.stem:20} float {whole:.4f}  before {low:.4f}  after {high:.4f}  won back {share}  {times}{said}"


def _joined(given: argparse.Namespace, folder: Path) -> str:
    """The calibration samples, with the unlabelled ones where there are some, as one file."""
    if given.also is None:
        return str(given.data)
    target = folder / "samples.npz"
    if not target.exists():
        with np.load(given.data) as own, np.load(given.also) as more:
            names = [name for name in own.files if name != "labels"]
            arrays: dict[str, Any] = {name: np.concatenate([own[name], more[name]]) for name in names}
        np.savez(target, **arrays)
    return str(target)


def recover(given: argparse.Namespace, folder: Path) -> None:
    """Pruned, repaired, tuned."""
    target, step = folder / "pruned.onnx", Prune(macs=given.macs, measure=False)
    for path in given.models:
        prune(path, step, Run(data=str(given.data), seed=given.seed), output=target, force=True)
        print(tuned(given, io.load(target), path, folder), flush=True)


def bits(given: argparse.Namespace, folder: Path) -> None:
    """Rounded, tuned as integers."""
    for path in given.models:
        print(tuned(given, coarse(io.load(path), given.bits), path, folder), flush=True)


def student(given: argparse.Namespace, folder: Path) -> None:
    """Taught from nothing, or from what noise left of it."""
    teacher, other = given.models
    whole, noise = io.load(other), given.noise
    begun = restarted(whole, given.seed) if noise is None else noisy(whole, noise, given.seed)
    print(f"student: {other.stem} with {'random weights' if noise is None else f'noise of {noise:g}'}; teacher:")
    print(tuned(given, begun, teacher, folder), flush=True)


WAYS: dict[str, Callable[[argparse.Namespace, Path], None]] = {"recover": recover, "bits": bits, "student": student}


def main() -> None:
    """Run one of the ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=list(WAYS))
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--also", type=Path)
    parser.add_argument("--eval", type=Path, required=True)
    parser.add_argument("--macs", type=float, default=0.4)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--noise", type=float)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--features", type=float, default=Finetune().features)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        WAYS[given.way](given, Path(folder))


if __name__ == "__main__":
    main()
