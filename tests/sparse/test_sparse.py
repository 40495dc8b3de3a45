"""Unstructured pruning end to end: shares, patterns, fits on real data, and what the user is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.calibrate.sparsify import Pattern
from optimizer.errors import BoundMissed, ConfigError, NothingToDo
from optimizer.model import io
from optimizer.pipeline.prune import prune
from optimizer.recipe import Prune, Run
from optimizer.report.records import Result
from optimizer.sparse.shares import Costs, ranked, shares
from optimizer.sparse.weights import weights
from tests import builders
from tests.choice.test_repair import CONVS, STATES, TOKENS, net, samples


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Run]:
    """A model file, and a run with a data file."""
    model = net(CONVS)
    io.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate([feed["x"] for feed in samples(model, 0)[:64]]))
    return tmp_path / "net.onnx", Run(data=str(tmp_path / "data.npz"))


def zeros(path: Path) -> dict[str, float]:
    """The share of zeros of each weight in a file."""
    found = weights(io.load(path).graph, (), ())
    return {one.name: float(np.mean(one.rows() == 0)) for one in found}


def pruned(given: tuple[Path, Run], step: Prune) -> Result:
    return prune(given[0], step, given[1], force=True)


def test_the_share_of_zeros_is_met_and_the_compressed_size_told(given: tuple[Path, Run]) -> None:
    result = pruned(given, Prune(sparsity=0.5, structured=False, measure=False))
    model = io.load(given[0].with_name("net.pruned.onnx"))
    sizes = [one.rows() for one in weights(model.graph, (), ())]
    assert sum((a == 0).sum() for a in sizes) / sum(a.size for a in sizes) == pytest.approx(0.5, abs=0.02)
    compressed = result.details["compressed_bytes"]
    assert compressed["after"] < 0.8 * compressed["before"]
    assert any("--structured" in warning for warning in result.warnings)


def test_what_stays_is_fitted_so_answers_are_closer_than_by_size_alone(given: tuple[Path, Run]) -> None:
    found = {}
    for criterion in ("magnitude", "wanda", "obs"):
        step = Prune(sparsity=0.5, structured=False, measure=False, criterion=criterion)  # type: ignore[arg-type]
        accuracy = pruned(given, step).accuracy
        assert accuracy is not None
        found[criterion] = accuracy.sqnr_db
    assert found["obs"] > max(found["magnitude"], found["wanda"]) + 3


def test_the_same_share_of_every_weight_without_data(given: tuple[Path, Run]) -> None:
    prune(given[0], Prune(sparsity=0.5, structured=False, measure=False), Run(), force=True)
    assert all(share == pytest.approx(0.5, abs=0.06) for share in zeros(given[0].with_name("net.pruned.onnx")).values())


def test_a_pattern_skips_weights_that_it_does_not_fit_and_says_so(given: tuple[Path, Run]) -> None:
    result = pruned(given, Prune(pattern="2:4", structured=False, measure=False))
    found = zeros(given[0].with_name("net.pruned.onnx"))
    assert found["w3"] == found["w4"] == found["w5"] == pytest.approx(0.5)
    assert {frozen.tensor for frozen in result.frozen} == {name for name, share in found.items() if share < 0.4}


def test_a_pattern_that_fits_nowhere_is_refused(given: tuple[Path, Run]) -> None:
    with pytest.raises(NothingToDo, match="3:7"):
        pruned(given, Prune(pattern="3:7", structured=False, measure=False))


def test_recurrent_weights_lose_entries_too(tmp_path: Path) -> None:
    text = "net (float[4,1,6] x, float[1,24,6] w1, float[1,24,8] w2, float[8,3] w3) => (float[4,1,1,3] y) {"
    io.save(net(text + " h = GRU<hidden_size=8>(x, w1, w2) y = MatMul(h, w3) }"), tmp_path / "net.onnx")
    prune(tmp_path / "net.onnx", Prune(sparsity=0.5, structured=False, measure=False), Run(), force=True)
    assert zeros(tmp_path / "net.pruned.onnx") == pytest.approx({"w1": 0.5, "w2": 0.5, "w3": 0.5}, abs=0.01)


def test_recurrent_weights_are_fitted_to_what_they_read(tmp_path: Path) -> None:
    model = net(STATES)
    io.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.stack([feed["x"] for feed in samples(model, 0)]))
    found = {}
    for criterion in ("magnitude", "obs"):
        step = Prune(sparsity=0.5, structured=False, measure=False, criterion=criterion, scope="layer")  # type: ignore[arg-type]
        accuracy = pruned((tmp_path / "net.onnx", Run(data=str(tmp_path / "data.npz"))), step).accuracy
        assert accuracy is not None
        found[criterion] = accuracy.sqnr_db
    assert found["obs"] > found["magnitude"] + 3


def test_what_costs_less_loses_more_and_the_whole_share_is_met() -> None:
    cheap, dear = (
        Costs(one, np.linspace(1, 2, 384).reshape(32, 12), Pattern())
        for one in weights(net(TOKENS).graph, (), ())[:1] * 2
    )
    found = shares([cheap, dear], [ranked(cheap), 1.5 * ranked(dear)], 0.5, "global")
    assert found[0] > 0.6 and found[1] < 0.4 and sum(found) == pytest.approx(1.0, abs=0.02)


def test_costs_at_the_outputs_add_up_to_the_noise_that_was_measured() -> None:
    one = Costs(weights(net(TOKENS).graph, (), ())[0], np.linspace(1, 2, 384).reshape(32, 12), Pattern())
    found = ranked(one, [(0.25, 3.0), (0.75, 60.0)])
    assert found[:64].sum() * 1.5 == pytest.approx(3.0, rel=0.01)
    assert found[:192].sum() * 1.5 == pytest.approx(60.0, rel=0.01)
    assert np.all(np.diff(found) > 0)


def test_as_many_weights_go_as_the_bound_on_the_drop_allows(given: tuple[Path, Run]) -> None:
    step = Prune(max_drop=0.05, metric="cosine", structured=False, measure=False)
    result = pruned(given, step)
    assert result.accuracy is not None and result.accuracy.drop <= 0.05 * result.accuracy.before
    found = list(zeros(given[0].with_name("net.pruned.onnx")).values())
    assert max(found) > 0.2


def test_a_bound_that_no_zeros_hold_is_refused_in_terms_of_weights(given: tuple[Path, Run]) -> None:
    with pytest.raises(BoundMissed, match="5% of the weights gone"):
        pruned(given, Prune(max_drop=0.0, metric="sqnr", structured=False, measure=False))
    assert not given[0].with_name("net.pruned.onnx").exists()


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"macs": 0.5, "structured": False}, "--structured"),
        ({"sparsity": 0.5, "pattern": "4x1"}, "--unstructured"),
        ({"sparsity": 0.5, "pattern": "2:4", "structured": False}, "leave --sparsity out"),
        ({"pattern": "4x1", "structured": False}, "add --sparsity"),
        ({"sparsity": 0.5, "mask_only": True, "structured": False}, "not with --unstructured"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_remedy(fields: dict[str, object], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        Prune(**fields)  # type: ignore[arg-type]


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    io.save(builders.model("net (float[1,4] x) => (float[1,4] y) { y = Relu(x) }"), tmp_path / "net.onnx")
    with pytest.raises(NothingToDo):
        prune(tmp_path / "net.onnx", Prune(sparsity=0.5, structured=False), Run())
