"""On real models: the nodes' times add up to the clock's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from optimizer.bench.compare import bench
from optimizer.pipeline.quantize import quantize
from optimizer.recipe import Bench, Quantize, Run

ZOO = Path(os.environ.get("ZOO_DIR", Path.home() / ".cache" / "optimize-zoo"))

pytestmark = [pytest.mark.zoo, pytest.mark.skipif(not ZOO.is_dir(), reason=f"no models in {ZOO}")]


def test_times_of_nodes_add_up_to_the_latency_in_float_and_in_int8(tmp_path: Path) -> None:
    path, data = ZOO / "efficientnet_lite0.onnx", str(ZOO / "efficientnet_lite0.calib.npz")
    step = Quantize(recover="none", calibration="minmax", measure=False)
    quantize(path, step, Run(data=data, samples=16), output=tmp_path / "int8.onnx")
    (found,) = bench(path, [tmp_path / "int8.onnx"], Bench(per_op=True, time_budget=10), Run(data=data, samples=16))
    assert found.latency_ms is not None
    before, after = found.details["per_op"]["total"]
    assert before == pytest.approx(found.latency_ms.before.p50, rel=0.15)
    assert after == pytest.approx(found.latency_ms.after.p50, rel=0.15)
    convs = [layer for layer in found.details["per_op"]["layers"] if layer["op_type"] == "Conv"]
    assert len(convs) == 49
    assert all(layer["before"] and layer["after"] for layer in convs)
