"""What quantization may cost: memory that does not grow with samples, and time in proportion to running them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ZOO = Path(os.environ.get("ZOO_DIR", Path.home() / ".cache" / "optimize-zoo"))
MODEL = ZOO / "efficientnet_lite0.onnx"
MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime, done.stderr[-500:]]))
"""
FLOAT = """
import sys
from optimizer.data.spec import open_samples
from optimizer.model import io
from optimizer.runtime.session import open_session
session = open_session(sys.argv[1])
for feed in open_samples(sys.argv[2], io.load(sys.argv[1])):
    session.run(feed)
"""
MOST_MB, TIMES, SECONDS = 300, 3, 20

pytestmark = [pytest.mark.zoo, pytest.mark.skipif(not MODEL.exists(), reason=f"no models in {ZOO}")]


def cost(*command: str) -> tuple[float, float]:
    """Peak memory in MB and CPU seconds of a process, which must end well."""
    told = subprocess.run([sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, check=True).stdout
    status, memory, seconds, errors = json.loads(told)
    assert status == 0, errors
    return memory, seconds


def samples(folder: Path, count: int) -> Path:
    """The calibration photographs, again and again with a little noise."""
    with np.load(MODEL.with_suffix(".calib.npz")) as arrays:
        ((name, given),) = ((name, array) for name, array in arrays.items() if array.ndim == 4)
    rng, path = np.random.default_rng(0), folder / f"{count}.npy"
    made = np.lib.format.open_memmap(path, "w+", np.float32, (count, *given.shape[1:]))
    for number in range(count):
        photograph = given[number % len(given)]
        made[number] = photograph + 0.02 * rng.standard_normal(photograph.shape, np.float32)
    assert name
    return path


def test_memory_does_not_grow_with_samples_and_time_is_a_few_runs_of_the_model(tmp_path: Path) -> None:
    peaks = {}
    for count in (50, 1000):
        data, output = str(samples(tmp_path, count)), str(tmp_path / f"{count}.onnx")
        quantize = [sys.executable, "-m", "optimizer", "quantize", str(MODEL), "--data", data, "-o", output]
        _, running = cost(sys.executable, "-c", FLOAT, str(MODEL), data)
        peaks[count], seconds = cost(*quantize, "--no-measure", "--samples", str(count))
        print(f"{count} samples: peak {peaks[count]:.0f} MB, {seconds:.1f} s of CPU, running them {running:.1f} s")
        assert seconds <= TIMES * running + SECONDS
    assert peaks[1000] - peaks[50] <= MOST_MB
