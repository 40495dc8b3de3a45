"""Prints the accuracy of a digit classifier, measured with ONNX Runtime, as one JSON line.

    python sample_models/evaluate.py MODEL.onnx [--data digits.eval.npz] [--batch 50]

Needs numpy and onnxruntime only. The data file holds arrays by input name and `labels`.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np

EVALUATION = Path(__file__).parent / "digits.eval.npz"


def evaluate(model: Path, data: Path = EVALUATION, batch: int = 50) -> dict[str, str | int | float]:
    """Classifies every sample of `data` and compares the first output's largest entry with the label."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported
    import onnxruntime as ort  # noqa: TID251  the folder stands alone, it does not import the package

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    arrays = dict(np.load(data))
    labels = arrays.pop("labels")
    correct = 0
    for start in range(0, len(labels), batch):
        chosen = slice(start, start + batch)
        (logits, *_) = session.run(None, {name: array[chosen] for name, array in arrays.items()})
        correct += int((logits.argmax(axis=1) == labels[chosen]).sum())
    return {
        "model": model.name,
        "data": data.name,
        "samples": len(labels),
        "correct": correct,
        "accuracy": correct / len(labels),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Accuracy of a digit classifier as one JSON line.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=EVALUATION)
    parser.add_argument("--batch", type=int, default=50)
    arguments = parser.parse_args()
    print(json.dumps(evaluate(arguments.model, arguments.data, arguments.batch)))
