"""The light models of the onnx wheel: every share of every group goes exactly, and nearly every weight is free."""

from __future__ import annotations

import pytest

from optimizer.model import cleanup
from tests.prune.equality import compare
from tests.prune.lights import light


@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_removed_and_masked_light_models_agree(name: str, share: float) -> None:
    model = light(name)
    cleanup.clean(model)
    outcome = compare(model, share)
    assert outcome.difference < 1e-4
    assert outcome.change > 1e-6
    assert outcome.share > 0.1
