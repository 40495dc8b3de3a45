"""The latency table of a small network: all of its time, and less where less is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.choice.times import Times
from optimizer.errors import BoundMissed
from optimizer.model import io
from optimizer.pipeline import common, latency, settle
from optimizer.pipeline.latency import table
from optimizer.pipeline.prune import prune
from optimizer.prune.groups import analyse
from optimizer.prune.prepare import prepare
from optimizer.recipe import Prune, Run
from tests.choice.test_repair import CONVS, net
from tests.prune.equality import some_labels


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file; measurements are short."""
    for module, name in ((latency, "_RACE_SECONDS"), (latency, "_PROFILE_SECONDS"), (settle, "_SEARCH_SECONDS")):
        monkeypatch.setattr(module, name, 0.2)
    io.save(net(CONVS), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_the_table_holds_all_of_the_time_and_less_of_less(path: Path) -> None:
    about, step = common.subject(path, Run()), Prune(latency=0.7)
    base = prepare(about.clean)
    found, axes = table(about, base, step, Run()), analyse(base)
    times = Times(axes, found)
    assert times.of(axes.none()) == pytest.approx(1, abs=0.3)
    assert times.of(some_labels(axes, 0.7, seed=0)) < times.of(axes.none())


def test_a_time_that_cannot_be_met_is_refused_with_what_nothing_can_go_of(path: Path) -> None:
    with pytest.raises(BoundMissed, match="of which nothing can go"):
        prune(path, Prune(latency=0.05), Run())
    assert not path.with_name("net.pruned.onnx").exists()


def test_a_time_that_clean_up_alone_undercuts_is_refused_with_that_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "_raced", lambda work, model: 0.5)
    with pytest.raises(BoundMissed, match=r"nearest is 0.50; .*clean-up alone leaves 0.50 of the time"):
        prune(path, Prune(latency=0.7), Run())
    assert not path.with_name("net.pruned.onnx").exists()
