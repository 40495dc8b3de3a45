"""The prune command end to end on a small network with real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.errors import BoundMissed
from optimizer.model import io
from optimizer.pipeline.prune import prune
from optimizer.recipe import Prune, Run, Scope
from optimizer.report.records import Accuracy
from tests.builders import model
from tests.choice.test_repair import CONVS, net, outputs, samples

SCOPES: tuple[Scope, ...] = ("layer", "auto")


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Run]:
    """A model file, and a run with a data file."""
    network = net(CONVS)
    io.save(network, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate([feed["x"] for feed in samples(network, 0)[:48]]))
    return tmp_path / "net.onnx", Run(data=str(tmp_path / "data.npz"))


def accuracy(path: Path, step: Prune, run: Run) -> Accuracy:
    found = prune(path, step, run, force=True).accuracy
    assert found is not None
    return found


def test_with_data_there_is_a_repair_and_answers_are_judged_on_samples_it_has_not_seen(given: tuple[Path, Run]) -> None:
    path, run = given
    repaired = accuracy(path, Prune(macs=0.7, measure=False), run)
    plain = accuracy(path, Prune(macs=0.7, measure=False, repair=False), run)
    assert repaired.sqnr_db > plain.sqnr_db
    assert repaired.samples == 12


def test_shares_by_what_groups_are_worth_are_closer_than_equal_shares(given: tuple[Path, Run]) -> None:
    path, run = given
    layer, auto = (accuracy(path, Prune(macs=0.7, measure=False, scope=scope), run).sqnr_db for scope in SCOPES)
    assert auto > layer


def test_masked_and_removed_files_get_the_same_repair(given: tuple[Path, Run]) -> None:
    path, run = given
    found: list[ir.Model] = []
    for mask_only in (False, True):
        prune(path, Prune(macs=0.7, measure=False, mask_only=mask_only), run, force=True)
        found.append(io.load(path.with_name("net.pruned.onnx")))
    removed, masked = (outputs(model, samples(model, 7)[:8]) for model in found)
    assert np.allclose(removed, masked, atol=1e-4)


def test_a_large_drop_is_not_silent(given: tuple[Path, Run]) -> None:
    path, run = given
    step = Prune(macs=0.4, measure=False, repair=False, criterion="random", metric="cosine")
    assert any("cosine falls from" in warning for warning in prune(path, step, run).warnings)


def test_a_drop_that_not_even_the_smallest_step_holds_is_refused(given: tuple[Path, Run]) -> None:
    path, run = given
    with pytest.raises(BoundMissed, match="not even"):
        prune(path, Prune(max_drop=0.0, metric="cosine", measure=False), run)
    assert not path.with_name("net.pruned.onnx").exists()


def test_as_much_goes_as_the_bound_on_the_drop_allows(given: tuple[Path, Run]) -> None:
    path, run = given
    step = Prune(max_drop=0.3, metric="cosine", measure=False, repair=False, align=1)
    result = prune(path, step, run)
    assert result.accuracy is not None and result.accuracy.drop <= 0.3
    assert result.macs.after < 0.97 * result.macs.before


def test_a_share_of_little_is_told(tmp_path: Path) -> None:
    """Half of the 3 x 8 and 8 x 2 weights is little of a model whose other weights nothing can be removed of."""
    text = """g (float[1,64] x, float[1,3] v) => (float[1,64] y, float[1,2] z) <float[3,8] a = {A}, float[8,2] b = {B},
        float[64,64] w = {W}> { y = MatMul(x, w)  h = MatMul(v, a) r = Relu(h) z = MatMul(r, b) }"""
    random = np.random.default_rng(0)
    for name, size in (("A", 24), ("B", 16), ("W", 4096)):
        text = text.replace("{" + name + "}", "{" + ", ".join(f"{v:.3f}" for v in random.normal(size=size)) + "}")
    io.save(model(text), tmp_path / "net.onnx")
    steps = prune(tmp_path / "net.onnx", Prune(sparsity=0.5, measure=False), Run()).steps
    assert any(step.startswith("1.0% of the parameters can go, and --sparsity is a share of those") for step in steps)
