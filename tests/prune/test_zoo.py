"""Real models: any share of every group goes exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.model import cleanup, io
from optimizer.prune.groups import analyse
from optimizer.prune.prepare import prepare
from tests.prune.equality import compare
from tests.prune.show import REAL, SAMPLES, SHARES

PATHS = [path if path.parent == SAMPLES else pytest.param(path, marks=pytest.mark.zoo) for path in REAL]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_removed_and_masked_real_models_agree(path: Path) -> None:
    model = io.load(path)
    cleanup.clean(model)
    if not any(len(group.labels) > 1 for group in analyse(prepare(model)).groups):
        pytest.skip("nothing to remove")
    for share in SHARES:
        outcome = compare(model, share)
        assert outcome.difference < 1e-4
        assert outcome.change > 1e-6
