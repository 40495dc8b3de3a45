"""Every option of `optimize quantize`: what it does to the file that is written, or why there is none."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from optimizer.cli import app
from optimizer.model import io
from tests.cli.runner import ARRAYS, NET, optimize
from tests.quantize.nets import build, normal, ops

Made = dict[str, tuple[dict[str, Any], ir.Model]]

SHARED = ["--data", "data.npz", "--json"]

GOOD: dict[str, list[str]] = {
    "static": ["--mode", "static", "--calibration", "percentile", "--recover", "none", "--per-tensor", "--target",
               "avx2", "--only", "Conv", "--no-measure"],
    "dynamic": ["--mode", "dynamic", "--exclude", "Conv", "--seed", "3", "--no-measure", "--metric", "cosine"],
    "blocks": ["--mode", "weights", "--bits", "4", "--block-size", "16", "--no-measure", "--max-drop", "90%"],
    "bytes": ["--inputs", "--mean", "0.5", "--std", "0.25", "--outputs", "--no-measure", "--everywhere"],
    "samples": ["--augment", "noise=0.05", "--calibration", "entropy", "--max-drop", "60%", "--metric", "sqnr",
                "--threads", "2", "--samples", "8", "--dim", "N=1", "--no-measure"],
}  # fmt: skip
BAD = {
    "--calibration guess": "guess",
    "--max-drop much": "much",
    "--mode weights --bits 3": "4 or 8",
    "--data nowhere.npz": "nowhere.npz",
    "--metric nothing": "nothing",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    wide = NET.replace("float[N,4]", "float[N,32]")
    io.save(build(wide, ARRAYS | {"u": normal(64, 32)}), made / "net.onnx")
    pictures = np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16)).astype(np.float32)
    np.savez(made / "data.npz", image=pictures / np.float32(63.75) - 2)
    return made


@pytest.fixture(scope="module")
def made(folder: Path) -> Made:
    """The JSON document and the file, by the name of the options."""
    found = {}
    for name, options in GOOD.items():
        done = optimize("quantize", "net.onnx", *SHARED, "-o", f"{name}.onnx", *options, folder=folder)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        found[name] = json.loads(done.stdout), io.load(folder / f"{name}.onnx")
    return found


def became(document: dict[str, Any]) -> Counter[str]:
    """How many nodes of an operator became what."""
    return Counter(f"{node['op']} {node['action']}" for node in document["nodes"])


def test_only_what_was_asked_for_becomes_int8_with_one_scale_per_weight(made: Made) -> None:
    document, model = made["static"]
    nodes = became(document)
    assert (nodes["Conv int8"], nodes["Gemm int8"]) == (2, 0)
    scales = [value for name, value in model.graph.initializers.items() if name.endswith("weight_scale")]
    assert len({scale.const_value.numpy().max() for scale in scales}) == len(scales)  # type: ignore[union-attr]
    assert all(np.ptp(scale.const_value.numpy()) == 0 for scale in scales)  # type: ignore[union-attr]
    assert model.metadata_props["optimize.target"] == "any"


def test_dynamic_form_leaves_convolutions_in_float(made: Made) -> None:
    document, model = made["dynamic"]
    nodes = became(document)
    assert nodes["Gemm dynamic"] == 1
    assert not nodes["Conv int8"] + nodes["Conv weights"]
    assert ops(model)["DynamicQuantizeLinear"] == 1


def test_blocks_have_the_size_and_the_bits_that_were_asked_for(made: Made) -> None:
    (node,) = (node for node in made["blocks"][1].graph if node.op_type == "MatMulNBits")
    assert (node.attributes["bits"].as_int(), node.attributes["block_size"].as_int()) == (4, 16)


def test_bytes_go_in_and_come_out(made: Made) -> None:
    _, model = made["bytes"]
    ports = (*model.graph.inputs, *model.graph.outputs)
    assert [value.dtype for value in ports] == [ir.DataType.UINT8] * 2
    code = json.loads(model.metadata_props["optimize.input.image"])
    assert code["scale"] == pytest.approx(1 / 255 / 0.25)
    assert code["zero_point"] == pytest.approx(0.5 * 255)


def test_few_samples_are_multiplied_and_judged_as_asked_for(made: Made) -> None:
    document, _ = made["samples"]
    judged = document["accuracy"]
    assert became(document)["Conv int8"] == 2
    assert "6 samples were augmented (noise=0.05) to 60" in document["steps"]
    assert (judged["metric"], judged["samples"], document["machine"]["threads"]) == ("sqnr", 2, 2)


@pytest.mark.parametrize("options", BAD)
def test_bad_options_are_told_in_a_line_and_leave_no_file(folder: Path, options: str) -> None:
    found = optimize("quantize", "net.onnx", "-o", "bad.onnx", *options.split(), folder=folder)
    assert found.returncode == 2
    assert BAD[options] in found.stderr
    assert "Traceback" not in found.stderr
    assert not (folder / "bad.onnx").exists()


@pytest.mark.parametrize(
    "command", [["quantize"], ["prune", "--macs", "0.5"], ["tune"], ["run", "steps.toml", "--model"]]
)
@pytest.mark.parametrize(
    ("before", "options", "after"), [(None, [], "1"), (None, ["--threads", "3"], "3"), ("4", [], "4")]
)
def test_linear_algebra_uses_as_many_threads_as_asked_for_but_the_users_own_choice_stays(
    command: list[str],
    before: str | None,
    options: list[str],
    after: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "OPENBLAS_NUM_THREADS": before or ""})
    if before is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    monkeypatch.chdir(tmp_path)
    Path("steps.toml").write_text('[[steps]]\ndo = "quantize"\n')
    assert CliRunner().invoke(app.app, [*command, "nowhere.onnx", *options]).exit_code
    assert os.environ["OPENBLAS_NUM_THREADS"] == after
