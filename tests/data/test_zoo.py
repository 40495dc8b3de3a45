"""Real models: their data files open, and without data synthetic inputs are found on which they run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from optimizer.data.spec import open_samples
from optimizer.model import io
from optimizer.model.ports import Feed
from optimizer.runtime.session import open_session

ZOO = Path(os.environ.get("ZOO_DIR", Path.home() / ".cache" / "optimize-zoo"))
FROM_DATA = ("efficientnet_lite0", "all_minilm_l6_v2", "ppocrv4_rec", "magika_standard_v3_3")
ALL = (*FROM_DATA, "ppocr_cls", "silero_vad", "g2p_en_gru")

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(not ZOO.is_dir(), reason=f"no real models in {ZOO} ($ZOO_DIR)"),
]


@pytest.mark.parametrize("name", ALL)
def test_a_real_model_runs_on_synthetic_inputs_after_at_most_three_tries(name: str) -> None:
    model, session, tries = io.load(ZOO / f"{name}.onnx"), open_session(ZOO / f"{name}.onnx"), 0

    def runs(feed: Feed) -> bool:
        nonlocal tries
        tries += 1
        return session.accepts(feed)

    samples = open_samples(None, model, count=6, runs=runs)
    assert all(runs(feed) for feed in samples) and tries - len(samples) <= 3


@pytest.mark.parametrize("name", FROM_DATA)
def test_a_real_data_file_feeds_its_model(name: str) -> None:
    model, session = io.load(ZOO / f"{name}.onnx"), open_session(ZOO / f"{name}.onnx")
    samples = open_samples(ZOO / f"{name}.calib.npz", model, count=5)
    assert len(samples) == 5 and not samples.notes and samples.joinable
    assert [len(session.run(batch)[0]) for batch in samples.batches(3)] == [3, 2]
