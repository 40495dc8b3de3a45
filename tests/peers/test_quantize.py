"""Against other quantizers on a real model: `pytest -m peers` (installs them on first use; takes minutes)."""

from __future__ import annotations

import pytest

from tests.peers.quantize import ZOO, head_to_head

MODEL = ZOO / "efficientnet_lite0.onnx"

pytestmark = [pytest.mark.peers, pytest.mark.skipif(not MODEL.exists(), reason=f"no models in {ZOO}")]


def test_ours_is_as_fast_as_the_best_stock_setting_and_closer_to_the_float_model() -> None:
    rows = {row.name: row for row in head_to_head(MODEL, ["stock-best"])}
    ours, stock = rows["ours"], rows["stock-best"]
    assert ours.accuracy is not None
    assert stock.accuracy is not None
    assert ours.speedup >= 0.97 * stock.speedup
    assert ours.accuracy.sqnr_db > stock.accuracy.sqnr_db
