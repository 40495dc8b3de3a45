"""Runs inside the peers' environment: ``python makers.py PEER MODEL FEEDS OUTPUT`` writes one quantized file.

FEEDS is a folder of ``N.npz`` files, one calibration sample each. Imports nothing of ours.

| peer          | what it is                                                                                    |
|---------------|-----------------------------------------------------------------------------------------------|
| stock         | onnxruntime's ``quantize_static`` with its defaults: int8 activations and weights, QDQ        |
| stock-best    | the same after its own pre-process (without symbolic shapes where those make it fail), uint8  |
|               | activations, int8 weights per channel, QDQ                                                    |
| stock-dynamic | onnxruntime's ``quantize_dynamic``, per channel                                               |
| nncf          | ``nncf.quantize`` with its defaults                                                           |
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx


def feeds(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            yield dict(arrays)


def stock(model: Path, data: Path, output: Path, **settings: Any) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = feeds(data)

        def get_next(self) -> Any:
            return next(self.rows, None)

    quantize_static(str(model), str(output), Reader(), **settings)


def stock_best(model: Path, data: Path, output: Path) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        try:
            quant_pre_process(str(model), str(prepared))
        except Exception:  # noqa: BLE001 - it raises bare Exception where its symbolic shape inference gives up
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        how = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
        stock(prepared, data, output, quant_format=QuantFormat.QDQ, **how)


def stock_dynamic(model: Path, data: Path, output: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(model), str(output), per_channel=True)


def nncf(model: Path, data: Path, output: Path) -> None:
    import nncf

    rows = list(feeds(data))
    onnx.save(nncf.quantize(onnx.load(str(model)), nncf.Dataset(rows), subset_size=len(rows)), str(output))


PEERS = {"stock": stock, "stock-best": stock_best, "stock-dynamic": stock_dynamic, "nncf": nncf}

if __name__ == "__main__":
    PEERS[sys.argv[1]](*map(Path, sys.argv[2:5]))
