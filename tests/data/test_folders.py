"""Folders of array files and ONNX test data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.numpy_helper import from_array

from optimizer.data.spec import open_samples
from optimizer.errors import DataError
from tests import builders


@pytest.fixture
def wide() -> ir.Model:
    return builders.model("g (float[N,T] x) => (float[N,T] y) { y = Relu(x) }")


@pytest.fixture
def pair() -> ir.Model:
    return builders.model("g (float[N,T] x, int64[N] n) => (float[N,T] y) { y = Relu(x) }")


def ones(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.ones(shape, np.float32)


def test_files_of_different_shapes_follow_each_other_in_the_order_people_count(tmp_path: Path, wide: ir.Model) -> None:
    for width, name in ((2, "9.npy"), (3, "10.npy"), (4, "100.npy")):
        np.save(tmp_path / name, ones(2, width))
    (tmp_path / "notes.txt").write_text("how this was recorded")
    assert [feed["x"].shape for feed in open_samples(tmp_path, wide)] == [(1, w) for w in (2, 2, 3, 3, 4, 4)]


def test_a_file_may_hold_one_sample_without_the_batch_axis(tmp_path: Path, wide: ir.Model) -> None:
    np.save(tmp_path / "a.npy", ones(5))
    np.save(tmp_path / "b.npy", ones(3, 5))
    assert [feed["x"].shape for feed in open_samples(tmp_path, wide)] == [(1, 5)] * 4


def test_npz_files_bring_their_labels(tmp_path: Path, pair: ir.Model) -> None:
    for index in range(3):
        np.savez(tmp_path / f"{index}.npz", x=ones(2, 3 + index), n=np.array([3, 3]), labels=np.array([index, 9]))
    samples = open_samples(tmp_path, pair)
    assert samples.labels is not None and samples.labels.tolist() == [0, 9, 1, 9, 2, 9]
    assert samples[5]["x"].shape == (1, 5)


def test_labels_in_some_files_only_are_refused(tmp_path: Path, wide: ir.Model) -> None:
    np.savez(tmp_path / "a.npz", x=ones(2, 3), labels=np.zeros(2))
    np.savez(tmp_path / "b.npz", x=ones(2, 3))
    with pytest.raises(DataError, match="1 of 2 files have no labels; label all or none"):
        open_samples(tmp_path, wide)


def test_one_npy_per_input_is_one_table(tmp_path: Path, pair: ir.Model) -> None:
    for name, array in (("x", ones(3, 4)), ("n", np.arange(3)), ("labels", np.arange(3))):
        np.save(tmp_path / f"{name}.npy", array)
    samples = open_samples(tmp_path, pair)
    assert [feed["n"].tolist() for feed in samples] == [[0], [1], [2]] and samples.labels is not None


def test_what_is_no_sample_is_named(tmp_path: Path, wide: ir.Model) -> None:
    with pytest.raises(DataError, match="holds no samples"):
        open_samples(tmp_path, wide)
    np.save(tmp_path / "a.npy", ones(1, 3))
    (tmp_path / "b.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(DataError, match=r"'b\.pkl' is no kind of sample"):
        open_samples(tmp_path, wide)


def test_a_bad_file_in_a_folder_is_named(tmp_path: Path, wide: ir.Model) -> None:
    np.save(tmp_path / "a.npy", ones(1, 3))
    np.save(tmp_path / "b.npy", ones(1, 3, 4, 5))
    with pytest.raises(DataError, match=r"b\.npy: input 'x' takes shape \(N, T\), the data has \(1, 3, 4, 5\)"):
        open_samples(tmp_path, wide)


def write(folder: Path, **tensors: onnx.TensorProto) -> None:
    folder.mkdir()
    for name, tensor in tensors.items():
        (folder / f"{name}.pb").write_bytes(tensor.SerializeToString())


def test_onnx_test_data_sets_are_one_feed_each(tmp_path: Path, pair: ir.Model) -> None:
    for index in range(11):
        x, n = from_array(ones(2, 1 + index)), from_array(np.array([index, index]))
        write(tmp_path / f"test_data_set_{index}", input_0=x, input_1=n, output_0=x)
    samples = open_samples(tmp_path, pair)
    assert [feed["x"].shape for feed in samples] == [(2, 1 + index) for index in range(11)]
    assert [int(feed["n"][0]) for feed in open_samples(tmp_path / "test_data_set_10", pair)] == [10]


def test_a_tensor_in_a_data_set_feeds_the_input_it_is_named_after(tmp_path: Path, pair: ir.Model) -> None:
    write(tmp_path / "s", input_0=from_array(np.array([7]), "n"), input_1=from_array(ones(1, 4), "x"))
    assert open_samples(tmp_path / "s", pair)[0]["n"].tolist() == [7]


@pytest.mark.parametrize("dims", [[2**40], [-1], [3]])
def test_a_hostile_tensor_is_refused(tmp_path: Path, wide: ir.Model, dims: list[int]) -> None:
    write(tmp_path / "s", input_0=onnx.TensorProto(data_type=1, dims=[1, *dims], raw_data=bytes(16)))
    with pytest.raises(DataError, match="not a serialized tensor"):
        open_samples(tmp_path / "s", wide)


def test_a_tensor_that_points_to_another_file_is_refused(tmp_path: Path, wide: ir.Model) -> None:
    tensor = onnx.TensorProto(data_type=1, dims=[1, 1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    write(tmp_path / "s", input_0=tensor)
    with pytest.raises(DataError, match="refers to another file"):
        open_samples(tmp_path / "s", wide)


def test_a_damaged_tensor_file_is_refused(tmp_path: Path, wide: ir.Model) -> None:
    (tmp_path / "input_0.pb").write_bytes(b"\xff" * 40)
    with pytest.raises(DataError, match=r"input_0\.pb: not a serialized tensor"):
        open_samples(tmp_path, wide)


def test_a_data_set_with_a_missing_or_surplus_tensor_is_refused(tmp_path: Path, pair: ir.Model) -> None:
    write(tmp_path / "a", input_0=from_array(ones(1, 4)))
    with pytest.raises(DataError, match="nothing for 'n'"):
        open_samples(tmp_path / "a", pair)
    write(
        tmp_path / "b", input_0=from_array(ones(1, 4)), input_1=from_array(np.array([1])), input_2=from_array(ones(1))
    )
    with pytest.raises(DataError, match=r"input_2\.pb has no input to feed: the model takes 2"):
        open_samples(tmp_path / "b", pair)
