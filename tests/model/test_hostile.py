"""Tensors that are damaged or mean harm: each is refused with one line, or is harmless and loads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from optimizer.model import io
from tests.model.hostile import (
    WHOLE,
    embedded,
    external,
    info,
    proto,
    refuse,
    with_tensor,
    write,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    return inside


def test_external_data_beside_the_model_is_read(folder: Path) -> None:
    model = io.load(write(folder, with_tensor(external(location="w.bin", offset=0, length=16))))
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), np.arange(4))  # type: ignore[union-attr]


EXTERNAL: dict[str, tuple[TensorProto, str]] = {
    "a name that climbs out": (external(location="../secret"), "must be beside the model"),
    "a name that climbs out later": (external(location="a/../../secret"), "must be beside the model"),
    "an absolute name": (external(location="/etc/hostname"), "must be beside the model"),
    "a name for another system": (external(location="..\\secret"), "must be beside the model"),
    "a drive letter": (external(location="C:secret"), "must be beside the model"),
    "no name": (external(), "must be beside the model"),
    "a name that no system takes": (external(location="a" * 5000), "must be beside the model"),
    "a name with a null": (external(location="a\0b"), "must be beside the model"),
    "a folder": (external(location="."), "not a regular file"),
    "a missing file": (external(location="none.bin"), "is missing"),
    "a monstrous length": (external(location="w.bin", length=2**50), "length says"),
    "a negative offset": (external(location="w.bin", offset=-4), "no size in bytes"),
    "an offset past the end": (external(location="w.bin", offset=8), "truncated"),
    "an offset in words": (external(location="w.bin", offset="four"), "no size in bytes"),
    "sizes that need more than the file has": (external((2**40,), location="w.bin"), "truncated"),
    "sizes whose product overflows": (external((2**40, 2**40), location="w.bin"), "truncated"),
    "a negative size": (external((-4,), location="w.bin"), "negative size"),
    "an unknown entry": (external(location="w.bin", base_dir="/"), "unknown external data entries: base_dir"),
    "strings": (external(dtype=TensorProto.STRING, location="w.bin"), "strings"),
}


@pytest.mark.parametrize("case", EXTERNAL)
def test_external_data_is_refused_with(case: str, folder: Path) -> None:
    tensor, text = EXTERNAL[case]
    refuse(write(folder, with_tensor(tensor)), text)


@pytest.mark.parametrize("case", ["constant", "branch", "function"])
def test_external_data_is_checked_wherever_it_hides(case: str, folder: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=external(location="../secret"))
    add = helper.make_node("Add", ["x", "c"], ["y"])
    body = helper.make_graph([constant, helper.make_node("Add", ["x", "c"], ["z"])], "b", [], [info("z")])
    condition = helper.make_tensor("k", TensorProto.BOOL, [], [1])
    models = {
        "constant": proto([constant, add]),
        "branch": proto([helper.make_node("If", ["k"], ["y"], then_branch=body, else_branch=body)], [condition]),
        "function": proto([helper.make_node("F", ["x"], ["y"], domain="f")], functions=[
            helper.make_function("f", "F", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 17)])]),
    }  # fmt: skip
    refuse(write(folder, models[case]), "must be beside the model")


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret")
    refuse(write(folder, with_tensor(external(location="link.bin"))), "link out of the model's folder")


def test_a_link_to_a_folder_outside_is_refused(folder: Path) -> None:
    (folder / "sub").symlink_to(folder.parent)
    refuse(write(folder, with_tensor(external(location="sub/secret"))), "link out of the model's folder")


def test_a_hard_link_is_refused(folder: Path) -> None:
    os.link(folder.parent / "secret", folder / "hard.bin")
    refuse(write(folder, with_tensor(external(location="hard.bin"))), "hard links")


def test_a_pipe_is_refused_and_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    refuse(write(folder, with_tensor(external(location="pipe"))), "not a regular file")


def test_a_download_cache_of_links_is_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "beef").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (blobs / "cafe").write_bytes(with_tensor(external(location="model.onnx.data")).SerializeToString())
    (snapshot / "model.onnx").symlink_to("../../blobs/cafe")
    (snapshot / "model.onnx.data").symlink_to("../../blobs/beef")
    model = io.load(snapshot / "model.onnx")
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), np.arange(4))  # type: ignore[union-attr]


T = TensorProto
EMBEDDED: dict[str, tuple[TensorProto, str]] = {
    "too few bytes": (embedded(T.FLOAT, (4,), raw_data=b"\0" * 15), "needs 16 bytes, it has 15"),
    "too many bytes": (embedded(T.FLOAT, (4,), raw_data=b"\0" * 17), "needs 16 bytes, it has 17"),
    "no data": (embedded(T.FLOAT, (2**40,)), "values, it has 0"),
    "a negative size": (embedded(T.FLOAT, (-1,), float_data=[1]), "negative size"),
    "the wrong typed field": (embedded(T.FLOAT, (1,), int32_data=[1]), "not in float_data"),
    "its data twice": (embedded(T.FLOAT, (1,), float_data=[1], raw_data=b"\0" * 4), "float_data and raw_data"),
    "too few values": (embedded(T.FLOAT16, (3,), int32_data=[1, 2]), "needs 3 values, it has 2"),
    "too few packed values": (embedded(T.INT4, (3,), int32_data=[1]), "needs 2 values, it has 1"),
    "half a complex number": (embedded(T.COMPLEX64, (1,), float_data=[1]), "needs 2 values, it has 1"),
    "too few strings": (embedded(T.STRING, (2,), string_data=[b"a"]), "needs 2 values, it has 1"),
    "an unknown dtype": (embedded(999, (1,), raw_data=b"\0"), "unknown data type 999"),
    "no dtype": (embedded(0, (1,), raw_data=b"\0"), "unknown data type 0"),
    "segments": (embedded(T.FLOAT, (1,), raw_data=b"\0" * 4, segment=T.Segment(begin=0, end=1)), "segments"),
}  # fmt: skip


@pytest.mark.parametrize("case", EMBEDDED)
def test_an_embedded_tensor_is_refused_with(case: str, tmp_path: Path) -> None:
    tensor, text = EMBEDDED[case]
    refuse(write(tmp_path, with_tensor(tensor)), text)


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_tensor_is_read(case: str, tmp_path: Path) -> None:
    assert io.load(write(tmp_path, with_tensor(WHOLE[case]))).graph.initializers["w"].const_value is not None
