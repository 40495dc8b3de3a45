"""Writing is all or nothing, deterministic, and what is read back is what was written."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from optimizer.errors import ModelError, OutputError
from optimizer.model import io
from tests.model.passes.numbers import build

WEIGHT = np.arange(5000, dtype=np.float32).reshape(50, 100)


@pytest.fixture
def net() -> ir.Model:
    return build("agraph (float[N,50] x) => (float[A,B] y) { h = MatMul (x, w) y = Add (h, b) }",
                 {"w": WEIGHT, "b": np.ones(100, np.float32)})  # fmt: skip


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if protobuf took 10 KB only."""
    monkeypatch.setattr(io, "PROTOBUF_LIMIT", 10_000)
    monkeypatch.setattr(io, "_MARGIN", 0)


def weight(model: ir.Model) -> np.ndarray:
    value = model.graph.initializers["w"].const_value
    assert value is not None
    return value.numpy()


def test_the_type_of_a_constant_is_told_once(net: ir.Model) -> None:
    value = net.graph.initializers["w"]
    value.shape, value.dtype = ir.Shape(WEIGHT.shape), ir.DataType.FLOAT
    assert not {info.name for info in io.to_proto(net).graph.value_info} & {"w", "b"}
    assert "w" in {info.name for info in ir.to_proto(net).graph.value_info}


def test_what_is_saved_is_loaded(net: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert io.save(net, path) == path.stat().st_size == io.size(path)
    loaded = io.load(path)
    np.testing.assert_array_equal(weight(loaded), WEIGHT)
    assert io.to_bytes(loaded) == path.read_bytes()
    assert io.to_bytes(io.load_bytes(path.read_bytes())) == path.read_bytes()


def test_the_same_model_gives_the_same_bytes(net: ir.Model, tmp_path: Path) -> None:
    for name in "ab":
        io.save(net, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_existing_file_needs_force(net: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        io.save(net, path)
    assert path.read_text() == "mine"
    io.save(net, path, force=True)
    assert weight(io.load(path)).shape == (50, 100)


def test_a_folder_or_a_missing_folder_is_refused(net: ir.Model, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        io.save(net, tmp_path, force=True)
    with pytest.raises(OutputError, match="does not exist"):
        io.save(net, tmp_path / "none" / "m.onnx")


def test_a_write_that_fails_leaves_nothing(net: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(io, "_sync", full)
    with pytest.raises(OutputError, match="No space left"):
        io.save(net, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_file(net: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("mine")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(io, "_sync", full)
    with pytest.raises(OutputError):
        io.save(net, path, force=True)
    assert path.read_text() == "mine" and [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_permissions_are_those_of_any_new_file(net: ir.Model, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    io.save(net, tmp_path / "m.onnx")
    assert stat.S_IMODE((tmp_path / "m.onnx").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.usefixtures("large")
def test_a_model_above_the_limit_gets_external_data(net: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    written = io.save(net, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert written == io.size(path) == sum(file.stat().st_size for file in tmp_path.iterdir())
    onnx.checker.check_model(str(path))
    np.testing.assert_array_equal(weight(io.load(path)), WEIGHT)


@pytest.mark.usefixtures("large")
def test_external_data_is_deterministic_and_survives_a_second_round(net: ir.Model, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        io.save(net, tmp_path / name / "m.onnx")
    for name in ("m.onnx", "m.onnx.data"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    io.save(io.load(tmp_path / "a" / "m.onnx"), tmp_path / "a" / "m.onnx", force=True)
    np.testing.assert_array_equal(weight(io.load(tmp_path / "a" / "m.onnx")), WEIGHT)


@pytest.mark.usefixtures("large")
def test_somebody_elses_data_file_needs_force(net: ir.Model, tmp_path: Path) -> None:
    (tmp_path / "m.onnx.data").write_text("mine")
    with pytest.raises(OutputError, match=r"m\.onnx\.data exists"):
        io.save(net, tmp_path / "m.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx.data"]
    assert (tmp_path / "m.onnx.data").read_text() == "mine"


@pytest.mark.usefixtures("large")
def test_a_large_write_that_fails_leaves_nothing(
    net: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(proto: onnx.ModelProto) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(io, "_serialize", full)
    with pytest.raises(OutputError):
        io.save(net, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_external_data_in_a_constant_node_is_embedded(tmp_path: Path) -> None:
    (tmp_path / "c.bin").write_bytes(np.ones(4, np.float32).tobytes())
    tensor = onnx.TensorProto(name="c", dims=[4], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="c.bin")
    net = build(
        "agraph (float[4] x) => (float[A] y) { c = Constant <value = float[4] {0., 0., 0., 0.}> () y = Add (x, c) }"
    )
    proto = ir.to_proto(net)
    proto.graph.node[0].attribute[0].t.CopyFrom(tensor)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert io.size(path) == path.stat().st_size + 16
    io.save(io.load(path), tmp_path / "out.onnx")
    moved = io.load_bytes((tmp_path / "out.onnx").read_bytes())
    np.testing.assert_array_equal(moved.graph.node(0).attributes["value"].as_tensor().numpy(), np.ones(4))


def test_bytes_with_external_data_are_refused(tmp_path: Path) -> None:
    tensor = onnx.TensorProto(name="w", dims=[4], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="c.bin")
    net = build("agraph (float[4] x) => (float[A] y) { y = Add (x, w) }", {"w": np.ones(4, np.float32)})
    proto = ir.to_proto(net)
    proto.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(ModelError, match="not read from a file"):
        io.load_bytes(proto.SerializeToString())
