"""Quantization from file to file: what is written, what it says, and what is refused with nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from optimizer.data.spec import open_samples
from optimizer.errors import BoundMissed, DataError, ModelError, NothingToDo, OutputError
from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline import quantize as pipeline
from optimizer.quantize.existing import integer_nodes
from optimizer.recipe import Quantize, Run, parse
from tests.cli.runner import write_data
from tests.pipeline.small import QUICK, answers, names, run
from tests.quantize.nets import Array, build, noise, normal


def test_the_result_is_written_beside_the_input_and_is_a_valid_int8_model(folder: Path) -> None:
    result = run(folder)
    written = folder / "net.int8.onnx"
    assert result.output == str(written)
    assert names(folder) == {"net.onnx", "data.npz", "net.int8.onnx"}
    onnx.checker.check_model(str(written), full_check=True)
    assert integer_nodes(io.load(written)) > 0
    assert result.size_bytes.after == written.stat().st_size < result.size_bytes.before
    assert noise(answers(written), answers(folder / "net.onnx")) < 0.05


def test_inputs_outputs_and_opset_keep_their_names_types_and_shapes(folder: Path) -> None:
    run(folder)
    before, after = io.load(folder / "net.onnx"), io.load(folder / "net.int8.onnx")
    for ports in ("inputs", "outputs"):
        facts = [[(v.name, v.dtype, v.shape) for v in getattr(m.graph, ports)] for m in (before, after)]
        assert facts[0] == facts[1]


def test_the_input_file_is_not_touched(folder: Path) -> None:
    before = (folder / "net.onnx").read_bytes()
    run(folder)
    assert (folder / "net.onnx").read_bytes() == before


@pytest.mark.parametrize("data", [True, False], ids=["data", "synthetic"])
def test_without_measuring_two_runs_write_the_same_bytes(folder: Path, data: bool) -> None:
    run(folder, data=data, output=folder / "one.onnx")
    run(folder, data=data, output=folder / "two.onnx")
    assert (folder / "one.onnx").read_bytes() == (folder / "two.onnx").read_bytes()


def test_the_seed_shows_in_what_synthetic_inputs_lead_to(folder: Path) -> None:
    for seed in (0, 1):
        given = Run(samples=8, seed=seed)
        pipeline.quantize(folder / "net.onnx", QUICK, given, output=folder / f"{seed}.onnx")
    assert (folder / "0.onnx").read_bytes() != (folder / "1.onnx").read_bytes()


def test_every_node_is_accounted_for_with_a_reason(folder: Path) -> None:
    result = run(folder)
    assert [node.op for node in result.nodes] == ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert {node.action for node in result.nodes} <= {"int8", "float", "dynamic", "weights"}
    assert all(node.reason for node in result.nodes)
    assert any(node.action == "int8" for node in result.nodes)


def test_the_file_says_what_made_it_and_from_what(folder: Path) -> None:
    run(folder)
    found = {entry.key: entry.value for entry in onnx.load(folder / "net.int8.onnx").metadata_props}
    assert found["optimize.command"] == "quantize"
    assert found["optimize.data"] == "given"
    assert len(found["optimize.source_sha256"]) == 64
    assert parse(found["optimize.recipe"]) == (QUICK,)
    assert str(folder) not in str(found)


def test_metadata_of_the_original_stays(folder: Path) -> None:
    proto = onnx.load(folder / "net.onnx")
    proto.metadata_props.add(key="author", value="me")
    onnx.save(proto, folder / "net.onnx")
    run(folder)
    assert io.load(folder / "net.int8.onnx").metadata_props["author"] == "me"


def test_synthetic_inputs_are_admitted_in_warnings_and_metadata(folder: Path) -> None:
    result = run(folder, data=False)
    assert any("synthetic" in warning for warning in result.warnings)
    assert result.accuracy is not None and result.accuracy.synthetic
    assert io.load(folder / "net.int8.onnx").metadata_props["optimize.data"] == "synthetic"


def test_with_labels_accuracy_is_top1_on_samples_that_calibration_never_saw(folder: Path) -> None:
    accuracy = run(folder).accuracy
    assert accuracy is not None
    assert (accuracy.metric, accuracy.samples, accuracy.synthetic) == ("top1", 4, False)


def test_the_metric_can_be_chosen(folder: Path) -> None:
    accuracy = run(folder, Quantize(measure=False, metric="sqnr")).accuracy
    assert accuracy is not None
    assert (accuracy.metric, accuracy.after) == ("sqnr", accuracy.sqnr_db)


def test_not_timing_is_admitted(folder: Path) -> None:
    result = run(folder)
    assert result.latency_ms is None
    assert any("not timed" in warning for warning in result.warnings)


def test_a_bound_that_cannot_be_held_is_missed_and_nothing_written(folder: Path) -> None:
    before = names(folder)
    with pytest.raises(BoundMissed, match=r"sqnr .* nothing was written"):
        run(folder, Quantize(measure=False, metric="sqnr", max_drop=0.0))
    assert names(folder) == before


def test_a_bound_that_holds_is_no_obstacle(folder: Path) -> None:
    result = run(folder, Quantize(measure=False, metric="cosine", max_drop=0.05))
    assert result.accuracy is not None and result.accuracy.drop <= 0.05
    assert (folder / "net.int8.onnx").exists()


def test_a_measured_run_times_and_writes_nothing_slower(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_RACE_SECONDS", 0.2)
    monkeypatch.setattr(pipeline, "_FINAL_SECONDS", 0.4)
    try:
        result = run(folder, Quantize())
    except NothingToDo as refusal:
        assert "as fast as the original" in str(refusal)
        assert not (folder / "net.int8.onnx").exists()
        return
    assert result.latency_ms is not None
    assert result.latency_ms.verdict in ("faster", "inconclusive")
    assert (folder / "net.int8.onnx").exists()


@pytest.mark.parametrize("measure", [False, True])
def test_where_no_answers_hold_the_form_that_is_only_stored_is_what_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch, measure: bool
) -> None:
    monkeypatch.setattr(pipeline, "_RACE_SECONDS", 0.2)
    monkeypatch.setattr(pipeline.Judge, "holds", lambda self, judged: False)
    monkeypatch.setattr(pipeline.Work, "final", lambda self, finalists: ())
    result = run(folder, Quantize(recover="none", measure=measure))
    assert {node.action for node in result.nodes} == {"float", "weights"}


def test_where_not_even_int8_storage_holds_weights_are_kept_as_float16(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.Judge, "holds", lambda self, judged: judged.candidate.half)
    result = run(folder)
    assert result.steps[-1].startswith("weights kept as float16")
    assert result.accuracy is not None
    assert result.accuracy.sqnr_db > 50
    assert result.size_bytes.after < 0.6 * result.size_bytes.before
    made = io.load(folder / "net.int8.onnx")
    monkeypatch.undo()
    again = run(folder, Quantize(mode="half", measure=False), output=folder / "again.onnx")
    assert again.nodes == result.nodes
    assert [v.dtype for v in io.load(folder / "again.onnx").graph.initializers.values()] == [
        v.dtype for v in made.graph.initializers.values()
    ]


def test_a_quantized_model_is_refused_with_a_word_on_what_to_do(folder: Path) -> None:
    run(folder)
    shutil.copy(folder / "net.int8.onnx", folder / "net.onnx")
    with pytest.raises(NothingToDo, match=r"quantized already.*float model"):
        run(folder, output=folder / "again.onnx")
    assert not (folder / "again.onnx").exists()


def test_a_model_whose_weights_are_stored_as_int8_counts_as_quantized(folder: Path) -> None:
    io.save(
        build("g (float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }", {"w": normal(64, 64)}), folder / "m.onnx"
    )
    step = Quantize(mode="weights", measure=False)
    pipeline.quantize(folder / "m.onnx", step, Run(samples=4), output=folder / "w.onnx")
    with pytest.raises(NothingToDo):
        pipeline.quantize(folder / "w.onnx", step, Run(samples=4), output=folder / "x.onnx")


NOTHING: dict[str, tuple[str, dict[str, Array]]] = {
    "no op with a kernel": ("g (float[1,4] x) => (float[1,4] y) { t = Tanh(x) y = Neg(t) }", {}),
    "no float values": ("g (int64[1,4] x) => (int64[1,4] y) { y = Add(x, x) }", {}),
    "a small weight": ("g (float[1,4] x) => (float[1,4] y) { t = Tanh(x) y = MatMul(t, w) }", {"w": normal(4, 4)}),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_a_model_with_nothing_to_quantize_gets_a_clear_answer_not_a_copy(kind: str, tmp_path: Path) -> None:
    io.save(build(*NOTHING[kind]), tmp_path / "net.onnx")
    with pytest.raises(NothingToDo, match="nothing"):
        pipeline.quantize(tmp_path / "net.onnx", QUICK, Run(samples=4))
    assert names(tmp_path) == {"net.onnx"}


def test_everything_left_out_on_request_is_nothing_to_do(folder: Path) -> None:
    with pytest.raises(NothingToDo):
        run(folder, Quantize(measure=False, exclude=("*",)))
    assert not (folder / "net.int8.onnx").exists()


def test_an_existing_file_stays_without_force_and_goes_with_it(folder: Path) -> None:
    (folder / "net.int8.onnx").write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        run(folder)
    assert (folder / "net.int8.onnx").read_text() == "precious"
    run(folder, force=True)
    assert integer_nodes(io.load(folder / "net.int8.onnx")) > 0


def test_data_that_does_not_fit_leaves_nothing_behind(folder: Path) -> None:
    write_data(folder / "data.npz", name="picture")
    with pytest.raises(DataError, match="'image'"):
        run(folder)
    assert names(folder) == {"net.onnx", "data.npz"}


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        pipeline.quantize(tmp_path / "absent.onnx", QUICK, Run(samples=4))


def test_a_failing_write_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(io, "_sync", full)
    with pytest.raises(OutputError, match="No space left"):
        run(folder)
    assert names(folder) == {"net.onnx", "data.npz"}


def test_a_race_without_time_still_has_an_interval_to_decide_by(folder: Path) -> None:
    """Six blocks: of one the interval is without end, of two it is so wide that nothing is ever faster."""
    model = io.load(folder / "net.onnx")
    samples = open_samples(str(folder / "data.npz"), model)
    (found,) = common.race(model, [model], samples, Run(), 0.0).latencies
    assert found.ci95[1] < 3 * found.ci95[0]
