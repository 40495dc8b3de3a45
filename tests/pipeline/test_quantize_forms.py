"""Quantization from file to file: modes, targets, preparations and blocks that can be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optimizer.errors import ConfigError, NothingToDo
from optimizer.model import io
from optimizer.pipeline import quantize as pipeline
from optimizer.recipe import Preprocess, Quantize, Run
from optimizer.runtime.optimized import optimized
from optimizer.runtime.session import open_session
from tests.cli.runner import network
from tests.pipeline.small import MATRICES, QUICK, TRANSFORMER, answers, names, run
from tests.quantize.nets import Array, build, noise, normal


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


def test_where_no_form_holds_the_closest_is_written_with_a_warning(tmp_path: Path) -> None:
    """The outputs turn over with the fourth digit of what goes into the sine: float16 weights are closer than int8."""
    text = "g (float[N,64] x) => (float[N,64] y) { h = MatMul(x, w)  t = Mul(h, k)  y = Sin(t) }"
    io.save(build(text, {"w": normal(64, 64, scale=0.1), "k": np.float32(2500)}), tmp_path / "net.onnx")
    result = pipeline.quantize(tmp_path / "net.onnx", Quantize(measure=False), Run(samples=8))
    assert result.accuracy is not None
    assert result.accuracy.sqnr_db < 14
    assert any("float16" in step for step in result.steps)
    assert any("drops by" in warning for warning in result.warnings)
