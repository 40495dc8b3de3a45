"""How arrays are checked against the inputs of a model, and what each refusal says."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.data.samples import Samples
from optimizer.data.spec import open_samples
from optimizer.errors import ConfigError, DataError
from optimizer.model.ports import Array
from tests import builders

IMAGE = "g (float[N,3,4,4] x) => (float[N,3,4,4] y) { y = Relu(x) }"
TOKENS = "g (int64[B,T] ids, int64[B,T] mask) => (int64[B,T] y) { y = Add(ids, mask) }"
FIXED = "g (float[4,3] x) => (float[4,3] y) { y = Relu(x) }"
SCALAR = "g (float[N,3] x, float rate) => (float[N,3] y) { y = Mul(x, rate) }"
STATE = "g (float[N,8] x, float[2,N,8] h) => (float[2,N,8] y) { y = Add(x, h) }"


@pytest.fixture
def npz(tmp_path: Path) -> Any:
    def opened(text: str | ir.Model, **arrays: Array) -> Samples:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        np.savez(file, **arrays)  # type: ignore[arg-type]
        return open_samples(file, builders.model(text) if isinstance(text, str) else text)

    return opened


def floats(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def refused(message: str) -> Any:
    return pytest.raises(DataError, match=re.escape(message))


def test_a_fixed_batch_takes_that_many_rows_and_says_what_it_leaves_out(npz: Any) -> None:
    samples = npz(FIXED, x=floats(10, 3), labels=np.arange(10))
    assert len(samples) == 2 and not samples.joinable
    np.testing.assert_array_equal(samples[1]["x"], floats(10, 3)[4:8])
    assert samples.labels.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert "the last 2 rows do not fill the model's fixed batch of 4" in samples.notes[0]


def test_fewer_rows_than_the_fixed_batch_are_refused(npz: Any) -> None:
    with refused("holds no sample; the model takes at least 4 row(s) at a time"):
        npz(FIXED, x=floats(3, 3))


def test_one_more_axis_is_one_array_per_sample(npz: Any) -> None:
    assert [feed["x"].shape for feed in npz(FIXED, x=floats(5, 4, 3))] == [(4, 3)] * 5


def test_a_state_with_its_batch_in_the_middle_takes_an_axis_of_samples(npz: Any) -> None:
    samples = npz(STATE, x=floats(5, 8), h=floats(5, 2, 1, 8))
    assert [feed["h"].shape for feed in samples] == [(2, 1, 8)] * 5 and not samples.joinable


def test_scalars_come_one_per_sample_or_one_for_all(npz: Any) -> None:
    assert [float(feed["rate"]) for feed in npz(SCALAR, x=floats(3, 3), rate=floats(3))] == [0, 1, 2]
    assert [float(feed["rate"]) for feed in npz(SCALAR, x=floats(3, 3), rate=np.float32(7))] == [7, 7, 7]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.zeros((2, 3), np.int64)}, "nothing for 'mask'; the model takes 'ids', 'mask', the data has 'ids'"),
        ({"ids": 3, "mask": 3, "typ": 3}, "'typ' is no input of the model, which takes 'ids', 'mask'; leave it out"),
        ({"ids": 3, "mask": 2}, "inputs differ in their number of samples: 'ids' 3, 'mask' 2"),
        ({"ids": 3, "mask": 3, "labels": 2}, "there are 2 labels for 3 samples"),
        ({"ids": 0, "mask": 0}, "holds no sample"),
    ],
)
def test_names_and_counts_are_checked(npz: Any, arrays: dict[str, Any], message: str) -> None:
    full = {name: np.zeros((a, 3), np.int64) if isinstance(a, int) else a for name, a in arrays.items()}
    with refused(message):
        npz(TOKENS, **full)


def test_a_single_array_of_another_name_gets_a_hint(npz: Any) -> None:
    with refused("the array 'image' must be named 'x' like the model's input"):
        npz(IMAGE, image=floats(2, 3, 4, 4))


def test_arrays_that_begin_with_an_underscore_are_passed_over(npz: Any) -> None:
    assert len(npz(IMAGE, x=floats(2, 3, 4, 4), _note=np.zeros(7))) == 2


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 4, 3), (2, 3, 4), (2, 2, 2, 3, 4, 4), ()])
def test_a_wrong_shape_names_input_expectation_and_finding(npz: Any, shape: tuple[int, ...]) -> None:
    with refused(f"input 'x' takes shape (N, 3, 4, 4), the data has {shape}"):
        npz(IMAGE, x=np.zeros(shape, np.float32))


@pytest.mark.parametrize("found", ["uint8", "int64", "bool", "str", "complex64", "datetime64[s]"])
def test_only_floats_feed_a_float_input(npz: Any, found: str) -> None:
    with refused("input 'x' takes float32, the data has"):
        npz(IMAGE, x=np.zeros((2, 3, 4, 4), found))


def test_double_is_rounded_with_a_note_and_half_is_widened_without(npz: Any) -> None:
    rounded, widened = (npz(IMAGE, x=np.full((2, 3, 4, 4), 0.1, dtype)) for dtype in (np.float64, np.float16))
    assert rounded[0]["x"].dtype == widened[0]["x"].dtype == np.float32
    assert "input 'x': float64 was rounded to float32" in rounded.notes[0] and not widened.notes


def test_big_endian_data_is_made_native(npz: Any) -> None:
    feed = npz(IMAGE, x=np.full((2, 3, 4, 4), 2.5, ">f4"))[0]
    assert feed["x"].dtype == np.float32 and (feed["x"] == 2.5).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.bool_])
def test_integers_are_cast_where_every_value_survives(npz: Any, dtype: Any) -> None:
    feed = npz(TOKENS, ids=np.ones((2, 3), dtype), mask=np.ones((2, 3), np.int64))[0]
    assert feed["ids"].dtype == np.int64 and (feed["ids"] == 1).all()


def test_an_integer_that_does_not_fit_is_refused_with_its_sample(npz: Any) -> None:
    ids = np.array([[1], [2**63]], np.uint64)
    samples = npz(TOKENS, ids=ids, mask=np.ones((2, 1), np.int64))
    with refused("sample 1: input 'ids' takes int64, but a value of the data does not fit it"):
        list(samples)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_sample_that_is_not_finite_is_named(npz: Any, bad: float, dtype: Any) -> None:
    x = np.zeros((4, 3, 4, 4), dtype)
    x[2, 1, 0, 0] = bad
    samples = npz(IMAGE, x=x)
    with refused("sample 2: input 'x' has NaN or infinite values"):
        list(samples)


def test_a_double_beyond_single_precision_is_refused(npz: Any) -> None:
    with refused("input 'x' has NaN or infinite values"):
        list(npz(IMAGE, x=np.full((1, 3, 4, 4), 1e300)))


def test_text_feeds_a_string_input(npz: Any) -> None:
    samples = npz("g (string[N] s) => (string[N] t) { t = Identity(s) }", s=np.array(["ä", "bc"]))
    assert [feed["s"].tolist() for feed in samples] == [["ä"], ["bc"]] and samples[0]["s"].dtype == object


def coded(scale: Any, zero_point: Any) -> ir.Model:
    model = builders.model("g (uint8[N,2,2] x) => (uint8[N,2,2] y) { y = Identity(x) }")
    model.metadata_props["optimize.input.x"] = f'{{"scale": {scale}, "zero_point": {zero_point}, "dtype": "uint8"}}'
    return model


def test_floats_for_a_coded_input_become_codes(npz: Any) -> None:
    x = np.array([[[-100.0, -0.25], [0.25, 0.75]], [[1.0, 3.0], [63.5, 1e6]]], np.float32)
    codes = np.concatenate([feed["x"] for feed in npz(coded(0.5, 128), x=x)])
    assert codes.dtype == np.uint8 and codes.ravel().tolist() == [0, 128, 128, 130, 130, 134, 255, 255]


def test_codes_for_a_coded_input_are_taken_as_they_are(npz: Any) -> None:
    x = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    np.testing.assert_array_equal(npz(coded(0.5, 128), x=x)[1]["x"], x[1:])


def test_a_code_per_channel_counts_along_axis_1(npz: Any) -> None:
    feed = npz(coded([0.5, 2.0], [0, 10]), x=np.full((1, 2, 2), 4.0, np.float32))[0]
    assert feed["x"].tolist() == [[[8, 8], [12, 12]]]


def test_samples_are_joinable_only_where_every_first_axis_is_the_batch() -> None:
    def joinable(text: str) -> bool:
        return open_samples(None, builders.model(text), count=1).joinable

    assert joinable(IMAGE) and joinable(TOKENS)
    assert not joinable(FIXED) and not joinable(SCALAR) and not joinable(STATE)
    assert not joinable("g (float[seq_len,1,4] x) => (float[seq_len,1,4] y) { y = Relu(x) }")
    assert not joinable("g (float[N,4] x, float[M,4] z) => (float[N,4] y) { y = Relu(x) }")
    assert not joinable("g (float[N,4] x) => (float[1,1] y) { y = ReduceSum(x) }")


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    model = builders.model("g (float[N,50000] x) => (float[N,50000] y) { y = Relu(x) }")
    np.save(tmp_path / "d.npy", np.ones((200, 50_000), np.float32))
    np.savez_compressed(tmp_path / "d.npz", x=np.ones((200, 50_000), np.float32))
    for name in ("d.npy", "d.npz"):
        tracemalloc.start()
        total = sum(float(feed["x"][0, 0]) for feed in open_samples(tmp_path / name, model))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == 200 and peak < 6e6, f"{name}: {peak} bytes at once for 40 MB of data"


def test_an_input_that_is_named_labels_is_an_input(npz: Any) -> None:
    samples = npz("g (float[N] labels) => (float[N] y) { y = Relu(labels) }", labels=floats(3))
    assert samples.labels is None and [feed["labels"].tolist() for feed in samples] == [[0], [1], [2]]


def test_at_least_one_sample_must_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="--samples is 0; give at least 1"):
        open_samples(None, builders.model(IMAGE), count=0)
