"""Quantization from file to file: what is written, what it says, and what is refused with nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optimizer.errors import BoundMissed, ConfigError, DataError, ModelError, NothingToDo, OutputError
from optimizer.model import io
from optimizer.pipeline import quantize as pipeline
from optimizer.quantize.existing import integer_nodes
from optimizer.recipe import Preprocess, Quantize, Run, parse
from optimizer.report.records import Result
from optimizer.runtime.optimized import optimized
from optimizer.runtime.session import open_session
from tests.cli.runner import network, write_data, write_model
from tests.quantize.nets import Array, build, noise, normal

QUICK = Quantize(measure=False)
TRANSFORMER = """g (float[1,N,32] x) => (float[1,N,32] y)
{ q = MatMul(x, a)  k = MatMul(x, b)  v = MatMul(x, c)  t = Transpose <perm = [0, 2, 1]> (k)  s = MatMul(q, t)
  p = Softmax(s)  o = MatMul(p, v)  r = Add(o, x)  h = MatMul(r, d)  g = Add(h, e)  f = Tanh(g)  y = MatMul(f, w) }"""
MATRICES = {name: normal(32, 32, seed=seed, scale=0.2) for seed, name in enumerate("abcdw")} | {"e": normal(32)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_model(folder / "net.onnx")
    write_data(folder / "data.npz", 16, labels=np.arange(16) % 4)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def run(folder: Path, step: Quantize = QUICK, data: bool = True, **options: object) -> Result:
    given = Run(data=str(folder / "data.npz") if data else None, samples=None if data else 8)
    return pipeline.quantize(folder / "net.onnx", step, given, **options)  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def answers(path: Path, count: int = 8) -> Array:
    session = open_session(path)
    return np.concatenate([session.run({"image": normal(1, 3, 16, 16, seed=seed)})[0] for seed in range(count)])


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


@pytest.mark.parametrize("mode", ["auto", "static", "dynamic", "weights"])
@pytest.mark.parametrize("calibration", ["mse", "minmax", "percentile", "entropy"])
def test_every_mode_and_calibration_makes_a_model_that_answers_alike(
    mode: str, calibration: str, tmp_path: Path
) -> None:
    io.save(build(TRANSFORMER, MATRICES), tmp_path / "net.onnx")
    step = Quantize(mode=mode, calibration=calibration, measure=False)  # type: ignore[arg-type]
    given = Run(samples=8, dims=(("N", 6),))
    pipeline.quantize(tmp_path / "net.onnx", step, given)
    feed = {"x": normal(1, 9, 32)}
    want, got = (open_session(tmp_path / name).run(feed)[0] for name in ("net.onnx", "net.int8.onnx"))
    assert noise(got, want) < (0.3 if calibration in ("percentile", "entropy") else 0.15)


@pytest.mark.parametrize("target", ["vnni", "avx2", "avx512", "arm64"])
def test_every_target_makes_a_model_that_loads(target: str, folder: Path) -> None:
    run(folder, Quantize(measure=False, target=target))  # type: ignore[arg-type]
    assert answers(folder / "net.int8.onnx").shape == (8, 4)


def test_one_scale_per_weight_on_request(folder: Path) -> None:
    run(folder, Quantize(measure=False, per_tensor=True))
    model = io.load(folder / "net.int8.onnx")
    weights = [node for node in model.graph if node.op_type == "DequantizeLinear" and node.inputs[0].const_value]
    scales = [node.inputs[1].const_value.numpy() for node in weights if node.inputs[0].dtype == ir.DataType.INT8]
    assert scales
    assert all(np.unique(scale).size == 1 for scale in scales)


def test_only_what_was_asked_for_is_quantized(folder: Path) -> None:
    result = run(folder, Quantize(mode="static", measure=False, only=("Conv",)))
    assert {node.op for node in result.nodes if node.action == "int8"} <= {"Conv", "Relu"}


@pytest.mark.parametrize("mode", ["static", "weights"])
def test_what_was_excluded_stays_in_float_and_says_so(mode: str, folder: Path) -> None:
    name = str(network().graph[2].name)
    result = run(folder, Quantize(mode=mode, measure=False, exclude=(name,)))  # type: ignore[arg-type]
    (conv,) = [node for node in result.nodes if node.name == name]
    assert (conv.action, conv.reason) == ("float", "left out on request")
    assert ir.DataType.FLOAT in {
        node.inputs[1].dtype for node in io.load(folder / "net.int8.onnx").graph if node.name == name
    }
    stored = io.load(folder / "net.int8.onnx").graph.initializers.values()
    assert [value.shape for value in stored if value.dtype == ir.DataType.FLOAT and len(value.shape or ()) == 4]


def test_samples_of_different_sizes_work(tmp_path: Path) -> None:
    io.save(build(TRANSFORMER, MATRICES), tmp_path / "net.onnx")
    (tmp_path / "data").mkdir()
    for length in (2, 3, 5, 8, 13):
        np.savez(tmp_path / "data" / f"{length}.npz", x=normal(1, length, 32))
    pipeline.quantize(tmp_path / "net.onnx", QUICK, Run(data=str(tmp_path / "data")))
    assert open_session(tmp_path / "net.int8.onnx").run({"x": normal(1, 21, 32)})[0].shape == (1, 21, 32)


def test_the_same_works_on_a_model_in_memory_of_an_old_opset(tmp_path: Path) -> None:
    proto = io.to_proto(network())
    proto.opset_import[0].version = 11
    proto.ir_version = 4
    onnx.save(proto, tmp_path / "net.onnx")
    pipeline.quantize(tmp_path / "net.onnx", QUICK, Run(samples=4))
    assert noise(answers(tmp_path / "net.int8.onnx"), answers(tmp_path / "net.onnx")) < 0.06


BRANCHES = """g (float[2,64] x, bool c) => (float[2,64] y) { a = MatMul(x, w) y = If (c)
<then_branch = t () => (float[2,64] p) { p = MatMul(a, w) }, else_branch = e () => (float[2,64] q) { q = Neg(a) }> }"""


@pytest.mark.parametrize("mode", ["auto", "weights"])
def test_a_weight_read_inside_and_outside_of_a_body_is_no_obstacle(mode: str, tmp_path: Path) -> None:
    io.save(build(BRANCHES, {"w": normal(64, 64)}), tmp_path / "net.onnx")
    step = Quantize(mode=mode, measure=False)  # type: ignore[arg-type]
    pipeline.quantize(tmp_path / "net.onnx", step, Run(samples=4))
    feed = {"x": normal(2, 64), "c": np.array(True)}
    want, got = (open_session(tmp_path / name).run(feed)[0] for name in ("net.onnx", "net.int8.onnx"))
    assert noise(got, want) < 0.05


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_weight_that_is_not_finite_stays_as_it_is(bad: float, tmp_path: Path) -> None:
    weight = normal(64, 64)
    weight[3, 5] = bad
    text = "g (float[2,64] x) => (float[2,64] y) { y = MatMul(x, w) }"
    io.save(build(text, {"w": weight}), tmp_path / "net.onnx")
    with pytest.raises(NothingToDo):
        pipeline.quantize(tmp_path / "net.onnx", QUICK, Run(samples=4))


def test_ten_samples_are_calibrated_on_for_each_where_augmentation_is_asked_for(folder: Path) -> None:
    result = run(folder, Quantize(measure=False, augment="flip,rotate=10,noise=0.05"))
    assert "12 samples were augmented (flip,rotate=10,noise=0.05) to 120" in result.steps
    assert result.accuracy is not None
    assert result.accuracy.samples == 4
    changed = (folder / "net.int8.onnx").read_bytes()
    run(folder, force=True)
    assert (folder / "net.int8.onnx").read_bytes() != changed


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [("flip", False, "give --data"), ("mixup", True, "training only"), ("tokens", True, "suits no input")],
)
def test_augmentation_that_cannot_be_is_refused(folder: Path, text: str, data: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(folder, Quantize(measure=False, augment=text), data=data)
    assert "net.int8.onnx" not in names(folder)


NORMALISED = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def photographs(folder: Path) -> Array:
    """Bytes, and the data prepared from them."""
    raw = np.random.default_rng(3).integers(0, 256, (16, 3, 16, 16))
    mean, std = (np.reshape(NORMALISED[key], (1, 3, 1, 1)) for key in ("mean", "std"))
    np.savez(folder / "data.npz", image=((raw / 255 - mean) / std).astype(np.float32))
    return np.asarray(raw, np.uint8)


def test_bytes_are_what_the_caller_sends_where_mean_and_std_are_given(folder: Path) -> None:
    raw = photographs(folder)
    run(folder, Quantize(measure=False, inputs=True, **NORMALISED))
    with np.load(folder / "data.npz") as data:
        image = data["image"]
    before, after = (open_session(folder / name) for name in ("net.onnx", "net.int8.onnx"))
    want = np.concatenate([before.run({"image": image[i : i + 1]})[0] for i in range(16)])
    got = np.concatenate([after.run({"image": raw[i : i + 1]})[0] for i in range(16)])
    assert noise(got, want) < 0.06
    readers = [use.node.op_type for use in optimized(folder / "net.int8.onnx").graph.inputs[0].uses()]
    assert set(readers) <= {"Transpose", "QLinearConv"}, "the bytes go into an int8 kernel as they are"


def test_the_run_s_own_preparation_of_images_says_what_bytes_mean_too(folder: Path) -> None:
    photographs(folder)
    given = Run(data=str(folder / "data.npz"), images=Preprocess(mean=(0.5,), std=(0.25,)))
    with pytest.raises(ConfigError, match="no bytes give"):
        pipeline.quantize(folder / "net.onnx", Quantize(measure=False, inputs=True), given)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mean": (0.5,), "std": (0.5,)}, "give --inputs"),
        ({"inputs": True, "mean": (0.5,)}, "both"),
        ({"inputs": True, "mean": (127.0,), "std": (1.0,)}, "divide bytes by 255"),
        ({"inputs": True, "mean": (0.5,), "std": (0.0,)}, "above 0"),
    ],
)
def test_half_a_preparation_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Quantize(**fields)


def test_a_mean_for_each_of_other_channels_is_refused(folder: Path) -> None:
    step = Quantize(measure=False, inputs=True, mean=(0.5, 0.5), std=(0.5, 0.4))
    with pytest.raises(ConfigError, match="has 3"):
        run(folder, step)


@pytest.mark.parametrize(
    ("given", "words"),
    [({"bits": 4}, "4-bit weights in blocks of 32"), ({"block_size": 16}, "8-bit weights in blocks of 16")],
)
def test_weights_in_blocks_are_smaller_and_the_report_says_what_they_are(
    given: dict[str, int], words: str, tmp_path: Path
) -> None:
    io.save(build(TRANSFORMER, MATRICES), tmp_path / "net.onnx")
    step = Quantize(mode="weights", measure=False, **given)  # type: ignore[arg-type]
    result = pipeline.quantize(tmp_path / "net.onnx", step, Run(samples=8, dims=(("N", 6),)))
    turned = [node for node in result.nodes if node.action == "weights"]
    assert {(node.op, node.reason) for node in turned} == {("MatMul", f"{words}, multiplied as they are")}
    assert len(turned) == 5
    assert words in result.steps[-1]
    assert result.params.after < 1.2 * result.params.before
    assert result.macs.after == result.macs.before
    feed = {"x": normal(1, 9, 32)}
    want, got = (open_session(tmp_path / name).run(feed)[0] for name in ("net.onnx", "net.int8.onnx"))
    assert noise(got, want) < 0.4
    with pytest.raises(NothingToDo, match="quantized already"):
        pipeline.quantize(tmp_path / "net.int8.onnx", QUICK, Run(samples=4))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"bits": 4}, "--mode weights"),
        ({"mode": "weights", "bits": 3}, "4 or 8"),
        ({"mode": "weights", "block_size": 48}, "one of 16, 32"),
    ],
)
def test_blocks_that_cannot_be_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Quantize(**fields)
