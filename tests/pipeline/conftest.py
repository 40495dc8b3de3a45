"""A small model with labelled data, as files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.runner import write_data, write_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_model(folder / "net.onnx")
    write_data(folder / "data.npz", 16, labels=np.arange(16) % 4)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path
