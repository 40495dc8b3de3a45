"""Recipes from file to file: every step taken, one model written, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from optimizer.errors import BoundMissed, ConfigError, OutputError
from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline import run as pipeline
from optimizer.pipeline.quantize import quantize
from optimizer.quantize.existing import integer_nodes
from optimizer.recipe import Bench, Prune, Quantize, Recipe, Run, parse
from optimizer.report.records import Result

SMALLER = (Prune(macs=0.6, measure=False), Quantize(measure=False))


def run(folder: Path, recipe: Recipe = SMALLER, **options: object) -> Result:
    return pipeline.run(recipe, folder / "net.onnx", Run(data=str(folder / "data.npz")), **options)  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_all_steps_are_taken_and_only_the_last_model_stays(folder: Path) -> None:
    result = run(folder)
    assert names(folder) == {"net.onnx", "data.npz", "net.optimized.onnx"}
    assert result.output == str(folder / "net.optimized.onnx")
    assert [step["command"] for step in result.details["steps"]] == ["prune", "quantize"]
    assert integer_nodes(io.load(folder / "net.optimized.onnx"))
    assert result.macs.after < 0.7 * result.macs.before
    assert result.size_bytes.before == (folder / "net.onnx").stat().st_size
    assert result.size_bytes.after == (folder / "net.optimized.onnx").stat().st_size
    assert result.accuracy is not None and result.accuracy.samples == 16
    assert result.latency_ms is None


def test_the_result_speaks_of_no_temporary_file(folder: Path) -> None:
    result = run(folder)
    assert [step["output"] for step in result.details["steps"]] == ["net.pruned.onnx", "net.pruned.int8.onnx"]
    assert ".tmp" not in str(result) and ".net.optimized" not in str(result)


def test_the_same_input_gives_the_same_bytes(folder: Path) -> None:
    run(folder, output=folder / "one.onnx")
    run(folder, output=folder / "two.onnx")
    assert (folder / "one.onnx").read_bytes() == (folder / "two.onnx").read_bytes()


def test_the_file_carries_its_recipe(folder: Path) -> None:
    run(folder, (*SMALLER, Bench(measure=False)))
    found = {entry.key: entry.value for entry in onnx.load(folder / "net.optimized.onnx").metadata_props}
    assert parse(found["optimize.recipe"]) == SMALLER
    assert found["optimize.command"] == "run"
    assert str(folder) not in str(found)


def test_a_missed_gate_names_its_step_and_nothing_is_written(folder: Path) -> None:
    recipe = (SMALLER[0], Bench(fail_if=("size > 0.01x", "drop > 100%"), measure=False), SMALLER[1])
    with pytest.raises(
        BoundMissed, match=r"^step 2 \(bench\): gate missed: size > 0.01x: .*; nothing was written"
    ) as found:
        run(folder, recipe)
    assert isinstance(found.value, common.Missed)
    assert [gate.status for gate in found.value.result.gates] == ["missed", "passed"]
    assert found.value.result.output is None
    assert names(folder) == {"net.onnx", "data.npz"}


def test_a_gate_on_the_clock_is_not_judged_where_nothing_is_timed_and_that_is_said(folder: Path) -> None:
    result = run(folder, pipeline.unmeasured((*SMALLER, Bench(fail_if=("latency > 0.1x", "size > 1x")))))
    assert [gate.condition for gate in result.gates] == ["size > 1x"]
    assert "gate not judged, since nothing is timed: latency > 0.1x" in result.warnings


def test_a_bound_that_a_step_misses_is_told_with_its_number(folder: Path) -> None:
    with pytest.raises(BoundMissed, match=r"^step 1 \(quantize\): .*--max-drop") as found:
        run(folder, (Quantize(max_drop=0.0, metric="sqnr", measure=False),))
    assert ".net" not in str(found.value)
    assert names(folder) == {"net.onnx", "data.npz"}


REFUSED = {
    "no step that changes anything": ((Bench(),), "changes nothing"),
    "no step": ((), "changes nothing"),
    "a gate that is none": ((*SMALLER, Bench(fail_if=("beauty > 1",))), "no metric 'beauty'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_recipe_that_makes_no_sense_is_refused_before_any_work(kind: str, folder: Path) -> None:
    recipe, told = REFUSED[kind]
    with pytest.raises(ConfigError, match=told):
        pipeline.run(recipe, folder / "absent.onnx")


def test_an_output_that_exists_needs_force(folder: Path) -> None:
    (folder / "net.optimized.onnx").write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        run(folder)
    assert run(folder, force=True).output is not None


@pytest.mark.parametrize("told", [False, True])
def test_inner_shapes_are_written_only_where_the_original_tells_them(folder: Path, told: bool) -> None:
    original = onnx.load(folder / "net.onnx")
    del original.graph.value_info[:]
    onnx.save(onnx.shape_inference.infer_shapes(original) if told else original, folder / "net.onnx")
    quantize(folder / "net.onnx", Quantize(measure=False), Run(samples=8))
    written = onnx.load(folder / "net.int8.onnx")
    assert bool(written.graph.value_info) == told
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(written, strict_mode=True))
