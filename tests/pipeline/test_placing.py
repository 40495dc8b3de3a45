"""What timing decides can be kept as a step, and that step gives the same model with nothing timed."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import onnx_ir as ir
import pytest

from optimizer.errors import ConfigError
from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline import quantize as pipeline
from optimizer.pipeline.common import Silent
from optimizer.pipeline.memory import Memory
from optimizer.pipeline.placing import place
from optimizer.pipeline.prune import prune
from optimizer.quantize import statistics
from optimizer.quantize.storage import SMALLEST
from optimizer.recipe import Prune, Quantize, Run, parse, text
from tests.cli.runner import write_data, write_model

PLACES = ("everything", "placed by the cost table", "placed by measured costs", "dynamic", "weights only")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "net.onnx")
    write_data(tmp_path / "data.npz", 16)
    return tmp_path


def content(model: ir.Model) -> str:
    """What a model is, however it says that it was made."""
    model.metadata_props.clear()
    return hashlib.sha256(io.to_bytes(model)).hexdigest()


def made(folder: Path, step: Quantize) -> str:
    run = Run(data=str(folder / "data.npz"))
    pipeline.quantize(folder / "net.onnx", step, run, output=folder / "made.onnx", force=True)
    return content(io.load(folder / "made.onnx"))


def test_every_candidate_can_be_asked_for_by_name(folder: Path) -> None:
    run = Run(data=str(folder / "data.npz"))
    work = pipeline.Work(common.subject(folder / "net.onnx", run), Quantize(), run, Silent())
    candidates = work.candidates()
    assert tuple(one.name for one in candidates) == PLACES
    for candidate in candidates:
        chosen = work.repaired(work.judge.of(candidate)).candidate
        step = candidate.decided(Quantize())
        assert parse(text((step,))) == (step,)
        assert made(folder, step) == content(chosen.model), candidate.name


def test_parts_that_went_back_to_float_stay_there(folder: Path) -> None:
    run = Run(data=str(folder / "data.npz"))
    step = Quantize(max_drop=0.0, metric="cosine", recover="none")
    work = pipeline.Work(common.subject(folder / "net.onnx", run), step, run, Silent())
    everything = next(iter(work.candidates()))
    assert everything.plan is not None
    sizes = {name: weight.values.size for name, weight in everything.plan.weights.items()}
    large = [
        one for one in work.bound.bargains(everything) if any(sizes.get(name, 0) >= SMALLEST for name in one.groups)
    ]
    fewer = work.bound.without(everything, large[:1])
    assert fewer.plain
    free = Quantize(recover="none")
    assert made(folder, fewer.decided(free)) == content(fewer.model)


def test_a_step_placed_by_timing_times_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_RACE_SECONDS", 0.3)
    monkeypatch.setattr(pipeline, "_FINAL_SECONDS", 0.3)
    step = place(folder / "net.onnx", Quantize(), Run(data=str(folder / "data.npz")), alone=nullcontext())
    assert not step.measure
    assert step.mode in ("static", "dynamic", "weights")


def test_a_name_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="places 'nowhere', which is no node here that has an int8 kernel"):
        made(folder, Quantize(mode="static", placed=("nowhere",), measure=False))


@pytest.mark.parametrize("fields", [{"placed": ()}, {"mode": "static", "plain": ("a",)}])
def test_what_cannot_be_placed_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="placed"):
        Quantize(**fields)  # type: ignore[arg-type]


def test_what_calibration_saw_is_remembered_for_the_same_samples_only(folder: Path) -> None:
    memory = Memory()
    run = Run(data=str(folder / "data.npz"))
    about = common.subject(folder / "net.onnx", run)
    known = memory.of(about, Quantize(), run)
    assert memory.of(about, Quantize(calibration="minmax", recover="none"), run) is known
    assert memory.of(about, Quantize(augment="auto"), run) is not known
    assert memory.of(about, Quantize(), Run(data=run.data, seed=1)) is not known


def test_a_model_made_with_a_memory_is_the_same_and_calibrated_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, run = Memory(), Run(data=str(folder / "data.npz"))
    gather = Mock(side_effect=statistics.gather)
    monkeypatch.setattr(statistics, "gather", gather)
    for method in ("minmax", "mse"):
        step = Quantize(mode="static", calibration=method, recover="none", measure=False)  # type: ignore[arg-type]
        pipeline.quantize(folder / "net.onnx", step, run, output=folder / f"{method}.onnx", memory=memory)
    assert gather.call_count == 1
    assert content(io.load(folder / "mse.onnx")) == made(folder, step)


def test_a_model_pruned_with_a_memory_is_the_same(folder: Path) -> None:
    memory, run = Memory(), Run(data=str(folder / "data.npz"))
    found = []
    for macs, memories in ((0.8, (memory,)), (0.6, (memory, None))):
        step = Prune(macs=macs, measure=False)
        for one in memories:
            prune(folder / "net.onnx", step, run, output=folder / "p.onnx", force=True, memory=one)
            found.append(content(io.load(folder / "p.onnx")))
    assert found[1] == found[2]
