"""The command line as a user meets it: its status, what it prints and what it leaves behind."""

from __future__ import annotations

import contextlib
import io as text_io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnx_ir as ir

from optimizer.cli import app as application
from optimizer.model import io
from tests.quantize.nets import build, normal

ROOT = Path(__file__).parents[2]
NET = """g (float[N,3,16,16] image) => (float[N,4] scores)
{ a = Conv <pads = [1, 1, 1, 1]> (image, w, b)  r = Relu(a)  c = Conv(r, v)  p = GlobalAveragePool(c)
  f = Flatten(p)  scores = Gemm(f, u) }"""
ARRAYS = {"w": normal(64, 3, 3, 3), "b": normal(64), "v": normal(64, 64, 3, 3) / 16, "u": normal(64, 4)}


def network() -> ir.Model:
    """A classifier of images with an open batch, large enough for int8 to pay."""
    return build(NET, ARRAYS)


def write_model(path: Path) -> Path:
    io.save(network(), path)
    return path


def write_data(path: Path, count: int = 12, name: str = "image", **more: np.ndarray) -> Path:
    np.savez(path, **{name: normal(count, 3, 16, 16)}, **more)  # type: ignore[arg-type]
    return path


def run(*arguments: object) -> int:
    """The status of `optimize ARGUMENTS`, in this process."""
    with mock.patch.object(sys, "argv", ["optimize", *map(str, arguments)]):
        try:
            application.run()
        except SystemExit as leaving:
            return int(leaving.code or 0)
    return 0


def optimize(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """`optimize ARGUMENTS` in `folder`, in this process, which need not load everything again."""
    out, err, before = text_io.StringIO(), text_io.StringIO(), Path.cwd()
    columns = mock.patch.dict(os.environ, COLUMNS="120")
    with columns, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        os.chdir(folder)
        try:
            status = run(*arguments)
        finally:
            os.chdir(before)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def process(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m optimizer ARGUMENTS` in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "optimizer", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
