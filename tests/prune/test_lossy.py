"""Norms that may lose positions: proved against a masked model whose norms see only what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.calibrate import equality
from optimizer.model import io
from optimizer.pipeline.prune import prune
from optimizer.prune import remove
from optimizer.recipe import Prune
from tests.ops.examples import EXAMPLES
from tests.prune.equality import compare
from tests.prune.random_graphs import OPSET, graph
from tests.prune.test_groups import model
from tests.prune.test_proof import NORM

NORMS = [example for example in EXAMPLES if example.until >= OPSET and ("Norm" in example.op or "Mean" in example.op)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    io.save(model(NORM, w=(6, 16), s=(16,), b=(16,), v=(16, 4)), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("number", range(len(NORMS)), ids=lambda number: NORMS[number].op)
def test_removed_graphs_equal_those_whose_norms_see_what_is_kept(number: int) -> None:
    net = graph(number, steps=3, row=NORMS[number])
    exact, lossy = (compare(net, 0.5, seed=number, lossy=loses) for loses in (False, True))
    assert lossy.difference < 1e-4
    assert lossy.share >= exact.share


def test_a_layer_that_is_normalized_can_go_by_half_with_proof(source: Path, tmp_path: Path) -> None:
    results = {}
    for masks in (False, True):
        step = Prune(sparsity=0.5, lossy=True, mask_only=masks, measure=False, align=1)
        prune(source, step, output=tmp_path / f"{masks}.onnx")
        results[masks] = io.load(tmp_path / f"{masks}.onnx")
    assert results[False].graph.initializers["w"].const_value.shape == (6, 8)
    assert results[True].graph.initializers["w"].const_value.shape == (6, 16)
    assert equality.prove(results[False], results[True], [{"x": np.ones((2, 6), np.float32)}]) < 1e-6


def test_statistics_over_zeros_would_not_pass_the_proof(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remove, "confine", lambda *given: None)
    with pytest.raises(equality.Unequal):
        prune(source, Prune(sparsity=0.5, lossy=True, measure=False), output=tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
