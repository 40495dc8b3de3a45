"""`.npz` and `.npy` files as samples."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.data import storage
from optimizer.data.spec import open_samples
from optimizer.errors import DataError
from tests import builders

PAIR = "g (float[N,3] x, int64[N,T] ids) => (float[N,3] y) { y = Relu(x) }"
SINGLE = "g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


@pytest.fixture
def pair() -> ir.Model:
    return builders.model(PAIR)


@pytest.fixture
def single() -> ir.Model:
    return builders.model(SINGLE)


def rows(count: int, *tail: int) -> Any:
    return np.arange(count * int(np.prod(tail)), dtype=np.float32).reshape(count, *tail)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_gives_one_row_per_sample_again_and_again(tmp_path: Path, pair: ir.Model, save: Any, order: Any) -> None:
    x, ids = rows(5, 3), np.arange(20).reshape(5, 4)
    save(tmp_path / "d.npz", x=np.asarray(x, order=order), ids=np.asarray(ids, order=order), labels=np.arange(5))
    samples = open_samples(tmp_path / "d.npz", pair)
    assert len(samples) == 5 and not samples.synthetic
    for _ in range(2):
        for index, feed in enumerate(samples):
            np.testing.assert_array_equal(feed["x"], x[index : index + 1])
            np.testing.assert_array_equal(feed["ids"], ids[index : index + 1])
    assert samples.labels is not None and samples.labels.tolist() == [0, 1, 2, 3, 4]


def test_npy_feeds_the_only_input(tmp_path: Path, single: ir.Model) -> None:
    np.save(tmp_path / "d.npy", rows(4, 3))
    assert [feed["x"].tolist() for feed in open_samples(tmp_path / "d.npy", single)] == rows(4, 1, 3).tolist()


def test_npy_cannot_feed_two_inputs(tmp_path: Path, pair: ir.Model) -> None:
    np.save(tmp_path / "d.npy", rows(4, 3))
    with pytest.raises(DataError, match=r"feeds one input, the model has 2; use \.npz"):
        open_samples(tmp_path / "d.npy", pair)


def test_count_draws_samples_by_seed_and_labels_follow(tmp_path: Path, single: ir.Model) -> None:
    np.savez(tmp_path / "d.npz", x=np.repeat(np.arange(100, dtype=np.float32)[:, None], 3, 1), labels=np.arange(100))
    first, again, other = (open_samples(tmp_path / "d.npz", single, count=10, seed=seed) for seed in (1, 1, 2))
    assert len(first) == 10 and [feed["x"][0, 0] for feed in first] == list(first.labels)  # type: ignore[arg-type]
    assert first.labels.tolist() == again.labels.tolist() != other.labels.tolist()  # type: ignore[union-attr]


def npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_a_header_that_asks_for_terabytes_is_refused(tmp_path: Path, single: ir.Model) -> None:
    (tmp_path / "d.npy").write_bytes(npy_header((2**40, 3)) + bytes(16))
    with pytest.raises(DataError, match=r"needs 13194139533312 bytes, but 16 are there"):
        open_samples(tmp_path / "d.npy", single)
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_header((2**40, 3)) + bytes(16))
    with pytest.raises(DataError, match=r"array 'x': .*needs 13194139533312 bytes, but 16 are there"):
        open_samples(tmp_path / "d.npz", single)


def test_bytes_that_belong_to_no_element_are_refused(tmp_path: Path, single: ir.Model) -> None:
    (tmp_path / "d.npy").write_bytes(npy_header((1, 3)) + bytes(16))
    with pytest.raises(DataError, match="needs 12 bytes, but 16 are there"):
        open_samples(tmp_path / "d.npy", single)


def test_labels_in_column_order_are_read_right(tmp_path: Path, single: ir.Model) -> None:
    labels = np.arange(6).reshape(3, 2)
    np.savez(tmp_path / "d.npz", x=rows(3, 3), labels=np.asfortranarray(labels))
    np.testing.assert_array_equal(open_samples(tmp_path / "d.npz", single).labels, labels)


def test_what_would_unpack_to_too_much_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((100_000, 3), np.float32))
    assert (tmp_path / "d.npz").stat().st_size < 5_000
    with pytest.raises(DataError, match=r"unpacks to 1200128 bytes, the limit is 1000000; save it with numpy\.savez"):
        storage.open_npz(tmp_path / "d.npz", limit=1_000_000)


def test_pickles_are_never_read(tmp_path: Path, single: ir.Model) -> None:
    np.save(tmp_path / "d.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="holds Python objects"):
        open_samples(tmp_path / "d.npy", single)


@pytest.mark.parametrize("name", ["d.npy", "d.npz"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04 broken", b"hello" * 100])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, single: ir.Model, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_samples(tmp_path / name, single)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_truncated_npz_is_refused(tmp_path: Path, single: ir.Model) -> None:
    np.savez(tmp_path / "d.npz", x=rows(100, 3))
    whole = (tmp_path / "d.npz").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "d.npz").write_bytes(whole[:size])
        with pytest.raises(DataError):
            list(open_samples(tmp_path / "d.npz", single))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_damaged_byte_is_an_error_or_harmless_but_never_a_crash(
    tmp_path: Path, single: ir.Model, save: Any
) -> None:
    save(tmp_path / "d.npz", x=rows(4, 3))
    whole = (tmp_path / "d.npz").read_bytes()
    for at in range(len(whole)):
        (tmp_path / "d.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            list(open_samples(tmp_path / "d.npz", single))
        except DataError as error:
            assert "\n" not in str(error)


def test_a_missing_file_is_named(single: ir.Model) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz: no such file"):
        open_samples("nowhere.npz", single)
