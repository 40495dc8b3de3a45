"""Whole searches with real trials: what they find, how they go on, and what they write."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import BoundMissed, ConfigError, OutputError
from optimizer.pipeline import run as pipeline
from optimizer.pipeline.common import Silent
from optimizer.recipe import Finetune, Run, config
from optimizer.report.records import Result
from optimizer.tune import build, guesses
from optimizer.tune.settings import Tune
from optimizer.tune.space import STEPS
from tests.cli.runner import write_data
from tests.tune import small

pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    small.hasty(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small.made(tmp_path)


def found(result: Result) -> list[tuple[object, ...]]:
    """What each trial was about and what it found, but for how long it took."""
    names = ("params", "content", "drop", "upper", "size", "holds")
    return [tuple(one.get(name) for name in names) for one in result.details["trials"]]


def again(folder: Path, recipe: Path) -> bytes:
    """The model that `optimize run` makes of the recipe."""
    given = config.find(recipe).of("run")
    assert given.model is not None
    pipeline.run(given.steps, given.model, Run(**given.common), output=folder / "again.onnx", force=True)
    return (folder / "again.onnx").read_bytes()


class Interrupting(Silent):
    """Somebody who presses Ctrl-C when a trial comes to a stage."""

    def __init__(self, when: str) -> None:
        self.when = when

    def stage(self, name: str, steps: int | None = None) -> Callable[[], None]:
        if name.startswith(self.when):
            raise KeyboardInterrupt
        return lambda: None


@pytest.mark.parametrize("when", ["trial 1 of 3: calibrating", "trial 3 of 3: judging"])
def test_interrupted_and_continued_is_the_same_search(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(guesses, "GUESSES", ({}, {"quantize.mode": "weights"}, {"quantize.recover": "none"}))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    whole = small.searched(other, 3)
    if when.startswith("trial 3"):
        half = small.searched(folder, 3, progress=Interrupting(when))
        assert half.details["interrupted"]
        assert len(half.details["trials"]) == 2
        assert half.output is not None
    else:
        with pytest.raises(Exception, match="none of 0 trials"):
            small.searched(folder, 3, progress=Interrupting(when))
    both = small.searched(folder, 3)
    assert found(both) == found(whole)
    assert [point["size"] for point in both.details["front"]] == [point["size"] for point in whole.details["front"]]
    assert (folder / "m.tuned.onnx").read_bytes() == (other / "m.tuned.onnx").read_bytes()


def test_a_search_that_times_begins_with_what_quantize_does_and_keeps_its_decisions(folder: Path) -> None:
    timed = dataclasses.replace(small.BY_SIZE, objective="latency")
    result = small.searched(folder, 1, timed)
    only = result.details["trials"][0]
    assert only["params"]["quantize.mode"] == "auto"
    assert "measure = false" in only["steps"]
    assert again(folder, folder / "optimize.toml") == (folder / "m.tuned.onnx").read_bytes()


def test_recipes_may_train(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = pytest.importorskip("optimizer.train.training")
    monkeypatch.setattr(training.Score, "clearly_below", lambda self, other: True)  # so few samples prove no gain
    guess = {
        STEPS: "prune,finetune,quantize", "prune.macs": 0.3, "prune.criterion": "magnitude", "quantize.mode": "weights",
        "finetune.epochs": 15, "finetune.lr": 1e-3, "finetune.batch": 8, "finetune.augment": "none",
    }  # fmt: skip
    monkeypatch.setattr(guesses, "GUESSES", (guess,))
    write_data(folder / "d.npz", 48)
    result = small.searched(folder, 1, Tune(max_drop=1.0, objective="size", train=True))
    assert any(isinstance(step, Finetune) for step in config.find(folder / "optimize.toml").steps)
    assert "finetune" in result.details["trials"][0]["recipe"]
    assert again(folder, folder / "optimize.toml") == (folder / "m.tuned.onnx").read_bytes()


def test_somebody_elses_configuration_stays_and_the_recipe_gets_a_name_of_its_own(folder: Path) -> None:
    (folder / "optimize.toml").write_text("seed = 0\n")
    result = small.searched(folder, 1)
    assert (folder / "optimize.toml").read_text() == "seed = 0\n"
    assert f"optimize run {folder / 'm.tuned.toml'} -o again.onnx makes the same model" in " ".join(result.steps)
    assert again(folder, folder / "m.tuned.toml") == (folder / "m.tuned.onnx").read_bytes()


@pytest.mark.parametrize(("text", "name"), [("[tool.optimize]\n", "m.tuned.toml"), ("[project]\n", "optimize.toml")])
def test_a_projects_own_table_is_not_hidden(folder: Path, text: str, name: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    result = small.searched(folder, 1)
    assert result.details["recipe"] == str(folder / name)


def test_it_goes_on_where_it_was_and_replaces_what_it_wrote(folder: Path) -> None:
    assert [len(small.searched(folder, trials).details["trials"]) for trials in (1, 2)] == [1, 2]


def test_a_model_that_it_did_not_write_is_not_replaced(folder: Path) -> None:
    small.searched(folder, 1)
    (folder / "m.tuned.onnx").write_text("mine")
    with pytest.raises(OutputError, match=r"m.tuned.onnx exists"):
        small.searched(folder, 1)
    assert (folder / "m.tuned.onnx").read_text() == "mine"


def test_a_model_that_was_there_before_is_refused_before_anything_is_begun(folder: Path) -> None:
    (folder / "m.tuned.onnx").write_text("mine")
    with pytest.raises(OutputError, match=r"m.tuned.onnx exists"):
        small.searched(folder, 1)
    assert not (folder / "m.tuned.study").exists()


def test_a_bound_that_nothing_keeps_to_is_missed_and_no_model_written(folder: Path) -> None:
    with pytest.raises(BoundMissed, match=r"none of 1 trials keeps to --max-drop 0.00%"):
        small.searched(folder, 1, Tune(max_drop=0.0, metric="cosine", objective="size"))
    assert not (folder / "m.tuned.onnx").exists()


def test_a_study_of_another_search_is_refused(folder: Path) -> None:
    small.searched(folder, 1)
    with pytest.raises(ConfigError, match="begun with another bound"):
        small.searched(folder, 1, Tune(max_drop=0.1, objective="size"))


def test_labels_are_what_accuracy_is_judged_by(tmp_path: Path) -> None:
    small.made(tmp_path, 20, labels=np.zeros(20, np.int64))
    result = small.searched(tmp_path, 1, Tune(max_drop=1.0, objective="size"))
    assert result.accuracy is not None
    assert result.accuracy.metric == "top1"


def test_shared_work_is_done_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.searched(folder, 2)
    made = {entry.name for entry in (folder / "cache").iterdir()}
    monkeypatch.setattr(build, "quantize", None)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("m.onnx", "d.npz"):
        shutil.copy(folder / name, other)
    shutil.copytree(folder / "cache", other / "cache")
    small.searched(other, 2)
    assert {entry.name for entry in (other / "cache").iterdir()} == made
