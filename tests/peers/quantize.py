"""``python -m tests.peers.quantize [MODEL ...]``: ours beside the other quantizers, from the same calibration data.

MODEL is a name in the zoo ($ZOO_DIR) or a path; without any, every zoo model is taken. ``NAME.calib.npz`` beside it
calibrates all of them and ``NAME.eval.npz`` judges; where they are missing (or with ``--synthetic``), seeded synthetic
samples do both. All files that load are timed in one interleaved race against the float model: one thread, spinning
off. A file that could not be made, or does not load or run, is a row with the reason.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from optimizer.calibrate.metrics import compare_outputs
from optimizer.data.samples import Samples
from optimizer.data.spec import open_samples
from optimizer.errors import UserError
from optimizer.model import io
from optimizer.report.records import Accuracy
from optimizer.runtime.session import Options, Session, open_session
from optimizer.runtime.timing import PairedTimes, compare
from tests.peers import environment

ZOO = Path(os.environ.get("ZOO_DIR", Path.home() / ".cache" / "optimize-zoo"))
PEERS = ("stock", "stock-best", "stock-dynamic", "nncf")
TIMED, PEER_SECONDS, OUR_SECONDS = 4, 600.0, 900.0


@dataclasses.dataclass(frozen=True)
class Row:
    """What one quantizer made of one model."""

    name: str
    reason: str | None = None
    """Why there is nothing to measure."""
    bytes: int = 0
    accuracy: Accuracy | None = None
    speedup: float = 0.0
    ci95: tuple[float, float] = (0.0, 0.0)


def head_to_head(
    model: Path, peers: Sequence[str] = PEERS, *, synthetic: bool = False, seconds: float = 12.0
) -> list[Row]:
    """Rows for the float model, ours, and each peer."""
    calibration, judging = samples(model, "calib", synthetic), samples(model, "eval", synthetic)
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        made = {"ours": ours(model, calibration, folder / "ours.onnx")}
        feeds = _written(calibration, folder / "feeds")
        made |= {peer: environment.make(peer, model, feeds, PEER_SECONDS) for peer in peers}
        return _measured(model, made, judging, seconds)


def samples(model: Path, part: str, synthetic: bool) -> Samples:
    data = model.with_suffix(f".{part}.npz")
    real = data.exists() and not synthetic
    return open_samples(data if real else None, io.load(model), runs=open_session(model).accepts)


def ours(model: Path, calibration: Samples, output: Path) -> Path | str:
    """`optimize quantize` as a user types it: the file it writes, or why it wrote none."""
    data = [] if calibration.synthetic else ["--data", str(model.with_suffix(".calib.npz"))]
    command = [sys.executable, "-m", "optimizer", "quantize", str(model), *data, "-o", str(output), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=OUR_SECONDS, check=False)
    last = (done.stderr.strip().splitlines() or ["-"])[-1]
    return output if done.returncode == 0 else f"exit {done.returncode}: {last}"


def _written(calibration: Samples, folder: Path) -> Path:
    folder.mkdir()
    for number, feed in enumerate(calibration):
        np.savez(folder / f"{number:05}.npz", **feed)  # type: ignore[arg-type]
    return folder


def _measured(model: Path, made: dict[str, Path | str], judging: Samples, seconds: float) -> list[Row]:
    baseline = open_session(model, Options())
    rows, sessions = [Row("float", None, model.stat().st_size)], [baseline]
    for name, file in made.items():
        opened = file if isinstance(file, str) else _opened(file, judging)
        if isinstance(opened, str):
            rows.append(Row(name, opened))
            continue
        accuracy = compare_outputs(baseline, opened, judging, judging)
        rows.append(Row(name, None, Path(file).stat().st_size, accuracy))
        sessions.append(opened)
    times = compare(sessions, [list(judging.take(TIMED))] * len(sessions), seconds=seconds, min_blocks=20)
    return _timed(rows, times)


def _opened(path: Path, judging: Samples) -> Session | str:
    try:
        session = open_session(path, Options())
        session.run(judging[0])
    except UserError as error:
        return f"does not run: {error}"
    return session


def _timed(rows: list[Row], times: PairedTimes) -> list[Row]:
    lanes = iter(range(1, len(rows)))
    found = []
    for row in rows:
        if row.accuracy is None:
            found.append(row)
            continue
        speed = times.speedup(next(lanes))
        found.append(dataclasses.replace(row, speedup=speed.speedup, ci95=(speed.lo, speed.hi)))
    return found


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows as text."""
    head = f"{'speed-up':>9}  {'95%':<9}  {'metric':>9} {'value':>7}{'agree':>8}{'cosine':>8}{'SQNR':>7}{'MB':>8}"
    return "\n".join([f"{title:<24}{head}", *(f"  {row.name:<22}{_figures(row)}" for row in rows)])


def _figures(row: Row) -> str:
    size = f"{row.bytes / 1e6:8.2f}" if row.bytes else " " * 8
    if row.reason is not None:
        return row.reason[:96]
    if (found := row.accuracy) is None:
        return " " * 63 + size
    agree = "-" if found.agreement is None else f"{found.agreement:.4f}"
    return (
        f"{row.speedup:8.2f}x  {row.ci95[0]:.2f}-{row.ci95[1]:.2f}  {found.metric:>9} {found.after:7.4f}"
        f"{agree:>8}{found.cosine:8.4f}{found.sqnr_db:7.1f}{size}"
    )


def models(names: Sequence[str]) -> list[Path]:
    if not names:
        return sorted(ZOO.glob("*.onnx"))
    return [Path(name) if name.endswith(".onnx") else ZOO / f"{name}.onnx" for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.peers.quantize", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated; default all")
    parser.add_argument("--synthetic", action="store_true", help="calibrate and judge on synthetic samples")
    parser.add_argument("--seconds", type=float, default=12.0, help="of timing for each model")
    given = parser.parse_args()
    peers = [peer for peer in given.peers.split(",") if peer]
    for model in models(given.models):
        rows = head_to_head(model, peers, synthetic=given.synthetic, seconds=given.seconds)
        print(table(model.stem, rows), flush=True)


if __name__ == "__main__":
    main()
