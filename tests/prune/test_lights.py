"""The light models of the onnx wheel: any share of every group goes exactly, and half of the parameters can go."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.model import cleanup, io
from optimizer.pipeline.prune import prune
from optimizer.recipe import Prune
from tests.prune.equality import compare
from tests.prune.lights import NAMES, light

QUICK = ("squeezenet", "shufflenet")


def names() -> list[object]:
    """The smallest two always, the others with the real models."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.zoo) for name in NAMES]


@pytest.mark.parametrize("name", names())
def test_removed_and_masked_light_models_agree(name: str) -> None:
    model = light(name)
    cleanup.clean(model)
    for share in (0.3, 0.7) if name in QUICK else (0.3, 0.5, 0.7):
        outcome = compare(model, share)
        assert outcome.difference < 1e-4
        assert outcome.change > 1e-6
        assert outcome.share > 0.1


@pytest.mark.parametrize("name", names())
def test_half_of_the_parameters_of_a_light_model_go(name: str, tmp_path: Path) -> None:
    io.save(light(name), tmp_path / "m.onnx")
    result = prune(tmp_path / "m.onnx", Prune(sparsity=0.5, measure=False), output=tmp_path / "out.onnx")
    assert 0.45 < 1 - result.params.after / result.params.before < 0.55


@pytest.mark.zoo
def test_half_a_resnet_is_much_faster(tmp_path: Path) -> None:
    io.save(light("resnet50"), tmp_path / "m.onnx")
    result = prune(tmp_path / "m.onnx", Prune(sparsity=0.5), output=tmp_path / "out.onnx")
    assert result.latency_ms is not None
    assert result.latency_ms.speedup >= 1.7
