"""The environment that other quantizers live in: made once, kept in a cache folder, never mixed with ours.

`$PEERS_DIR` (default ``~/.cache/optimize-peers``) says where. The runtime in it is of the version that measures, so
that its quantizer is the one a user of that runtime has.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HOME = Path(os.environ.get("PEERS_DIR", Path.home() / ".cache" / "optimize-peers"))
MAKERS = Path(__file__).with_name("makers.py")
_QUIET = {"ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
"""No telemetry, one thread."""


def requirements() -> tuple[str, ...]:
    """What is installed: the quantizer of our own runtime, what its pre-process needs, and NNCF."""
    return (f"onnxruntime=={version('onnxruntime')}", f"onnx=={version('onnx')}", "sympy", "nncf==3.4.0")


def python() -> Path:
    """The interpreter of the environment, which is made on first use."""
    wanted = requirements()
    folder = HOME / hashlib.sha256(repr((sys.version_info[:2], wanted)).encode()).hexdigest()[:12]
    found = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "ready").exists():
        return found
    print(f"installing {' '.join(wanted)} into {folder}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run([str(found), "-m", "pip", "install", "--quiet", *wanted], check=True)
    (folder / "ready").touch()
    return found


def make(peer: str, model: Path, feeds: Path, seconds: float) -> Path | str:
    """What `peer` makes of `model`, or why there is nothing. Kept in the cache folder, failures too."""
    output = HOME / "files" / f"{_key(peer, model, feeds)}.onnx"
    failed = output.with_suffix(".txt")
    if failed.exists():
        return failed.read_text()
    if output.exists():
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    reason = _run(peer, model, feeds, output, seconds)
    if reason is None:
        return output
    failed.write_text(reason)
    return reason


def _run(peer: str, model: Path, feeds: Path, output: Path, seconds: float) -> str | None:
    command = [str(python()), str(MAKERS), peer, str(model.resolve()), str(feeds), str(output)]
    own = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    environment = {**own, **_QUIET}
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:  # their tools leave files where they are run
        try:
            done = subprocess.run(
                command, env=environment, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return f"still running after {seconds:.0f} s"
    if done.returncode == 0 and output.exists():
        return None
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return f"crashed: {lines[-1].strip()}"


def _key(peer: str, model: Path, feeds: Path) -> str:
    """Everything that the file depends on."""
    digest = hashlib.sha256(repr((peer, requirements())).encode())
    for path in (MAKERS, model, *sorted(feeds.iterdir())):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]
