"""Without torch, which only the extra `train` installs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import MissingExtra
from optimizer.model import io
from optimizer.pipeline.finetune import finetune
from optimizer.recipe import Run
from tests.builders import model


def test_without_torch_the_command_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    io.save(model("g (float[n,2] x) => (float[n,2] y) <float[2] b = {1, 2}> { y = Add(x, b) }"), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.ones((8, 2), np.float32))
    with pytest.raises(MissingExtra, match=r"optimize-onnx\[train\]"):
        finetune(tmp_path / "m.onnx", tmp_path / "m.onnx", None, Run(data=str(tmp_path / "x.npy")))
