"""Quantize many models as a user would and print a line for each: `python -m tests.quantize.sweep FOLDER_OR_MODEL...`

Options go to `optimize quantize` as they are, behind `--`: `python -m tests.quantize.sweep models -- --no-measure`.
A line says: the model; the exit status; speed-up with its 95% interval; the size left; how many nodes are int8,
dynamic, stored as int8, and float; the SQNR that the command told, and the one on synthetic inputs of another seed;
seconds; then what was done, or why nothing, or `FAULT` with the reason where a promise was broken: a status other than
0, 1 or 2, a traceback, a slower result, a missing or a needless file, answers far worse than told.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from optimizer.calibrate.metrics import compare_outputs
from optimizer.calibrate.selection import comparable
from optimizer.data.convert import codes
from optimizer.data.samples import coded
from optimizer.data.spec import open_samples
from optimizer.model import cleanup, io
from optimizer.pipeline.common import name_nodes
from optimizer.runtime.session import open_session

_SECONDS = 900.0
_SEED, _OTHERS = 97, 8
_WORSE_DB = 10.0
"""Decibels that answers on unseen inputs may be below those told."""


@dataclasses.dataclass(frozen=True)
class Line:
    """What became of one model."""

    status: int | None
    seconds: float
    last: str
    """The last line on stderr, or what was done in the end."""
    document: dict[str, Any] | None = None
    other_db: float | None = None
    """SQNR on inputs of another seed."""
    fault: str | None = None


def swept(model: Path, options: list[str]) -> Line:
    """Run the command on `model` and check what it promises."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        output = Path(folder) / "out.onnx"
        command = [sys.executable, "-m", "optimizer", "quantize", str(model), "-o", str(output), "--json", *options]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Line(None, _SECONDS, "", fault=f"still running after {_SECONDS:.0f} s")
        line = Line(done.returncode, time.perf_counter() - start, (done.stderr.strip().splitlines() or [""])[-1])
        if "Traceback" in done.stderr or done.returncode not in (0, 1, 2):
            return dataclasses.replace(line, fault="a fault of ours")
        if (done.returncode == 0) != output.exists():
            return dataclasses.replace(line, fault="no file" if done.returncode == 0 else "a file is left")
        if done.returncode:
            return line if line.last else dataclasses.replace(line, fault="not a word")
        document = json.loads(done.stdout)
        line = dataclasses.replace(line, document=document, last=document["steps"][-1])
        line = dataclasses.replace(line, other_db=other_sqnr(model, output))
        return dataclasses.replace(line, fault=broken(line))


def other_sqnr(model: Path, candidate: Path) -> float:
    """SQNR of the answers on synthetic inputs that the command has not made."""
    loaded, made = io.load(model), io.load(candidate)
    one, other = open_session(loaded), open_session(comparable(made))
    samples = open_samples(None, loaded, count=_OTHERS, seed=_SEED, runs=one.accepts)
    cleanup.clean(loaded)
    name_nodes(loaded)
    return compare_outputs(open_session(comparable(loaded)), other, samples, coded(samples, codes(made))).sqnr_db


def broken(line: Line) -> str | None:
    """Which promise a written result breaks."""
    assert line.document is not None and line.other_db is not None
    latency, accuracy = line.document["latency_ms"], line.document["accuracy"]
    if latency is not None and latency["verdict"] == "slower":
        return "slower"
    told = accuracy["sqnr_db"]
    return "far worse on other inputs" if told is not None and line.other_db < told - _WORSE_DB else None


def text(model: Path, line: Line) -> str:
    """The line, to be printed."""
    head = f"{model.stem:28}{'-' if line.status is None else line.status} {_figures(line)}{line.seconds:5.0f} s  "
    return head + (f"FAULT {line.fault}: {line.last}" if line.fault else line.last)


def _figures(line: Line) -> str:
    if line.document is None:
        return " " * 66
    latency, accuracy, sizes = (line.document[key] for key in ("latency_ms", "accuracy", "size_bytes"))
    speed = " " * 17
    if latency is not None:
        speed = f"{latency['speedup']:5.2f}x {latency['ci95'][0]:.2f}-{latency['ci95'][1]:.2f} "
    actions = Counter(node["action"] for node in line.document["nodes"])
    counts = "/".join(str(actions[name]) for name in ("int8", "dynamic", "weights", "float"))
    told = accuracy["sqnr_db"]
    told = "equal" if told is None else f"{told:.1f}"
    return f"{speed}{sizes['after'] / sizes['before']:5.2f} {counts:>18} {told:>6} {line.other_db:6.1f} dB "


def main(arguments: list[str]) -> None:
    """One line for each model named, or found in a folder, smallest first."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    named, options = [Path(name) for name in arguments[:cut]], arguments[cut + 1 :]
    found = [path for name in named for path in ([name] if name.is_file() else name.glob("*.onnx"))]
    faults = 0
    for path in sorted(found, key=lambda path: path.stat().st_size):
        line = swept(path, options)
        faults += line.fault is not None
        print(text(path, line), flush=True)
    print(f"{len(found)} models, {faults} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
