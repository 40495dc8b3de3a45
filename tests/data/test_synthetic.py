"""Inputs for models without data: what the graph demands is met, sizes are found, and seeds repeat.

The oracle is ONNX Runtime: an index outside its table, a length beyond its sequence, or a size that does not fit the
weights makes it refuse the feed.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests import builders
from tests.data.drawn import drawn, embedding, together, zeros


@pytest.mark.parametrize(
    ("path", "low", "high"),
    [
        ("y = Gather(table, ids)", 0, 6),
        ("short = Cast<to = 6>(ids) y = Gather(table, short)", 0, 6),
        ("up = Unsqueeze(ids, one) down = Squeeze(up, one) y = Gather(table, down)", 0, 6),
        ("more = Add(ids, two) y = Gather(table, more)", 0, 4),
        ("less = Sub(ids, two) y = Gather(table, less)", 0, 8),
        ("three = Gather(table, wide) z = Gather(three, ids) w = Gather(table, ids) y = Add(z, w)", 0, 2),
        ("flat = Reshape(ids, plain) y = Gather(table, flat)", 0, 6),
    ],
)
def test_an_index_stays_inside_its_table(path: str, low: int, high: int) -> None:
    found = together(drawn(embedding(7, path), count=40), "ids")
    assert found.min() >= low and found.max() <= high
    assert len(np.unique(found)) > (high - low) // 2


def test_an_index_is_followed_into_branches_loops_and_functions() -> None:
    model = builders.model(
        f"""g (int64[B,S] ids, bool c) => (float[B,S,2] y) <float[9,2] table = {zeros(9, 2)},
            float[5,2] small = {zeros(5, 2)}> {{
          y = If (c) <then_branch = t () => (float[B,S,2] a) {{ a = Gather(table, ids) }},
                      else_branch = e () => (float[B,S,2] b) {{ b = Gather(small, ids) }}>
        }}"""
    )
    assert together(drawn(model, count=40), "ids").max() == 4
    looped = builders.model(
        """g (int64[B,S] ids) => (int64[B,S] y) <int64[6] next = {1,2,3,4,5,0}, int64 trips = {3},
            bool go = {1}> {
          y = Loop (trips, go, ids) <body = b (int64 i, bool c, int64[B,S] v) => (bool d, int64[B,S] w) {
            d = Identity(c) w = Gather(next, v) }>
        }"""
    )
    assert together(drawn(looped, count=40), "ids").max() == 5
    called = ir.from_onnx_text(
        f"""<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (int64[B,S] ids) => (float[B,S,2] y) <float[4,2] table = {zeros(4, 2)}> {{ y = local.look(ids, table) }}
        <domain: "local", opset_import: ["" : 17]> look (i, t) => (o) {{ same = Identity(i) o = Gather(t, same) }}"""
    )
    assert together(drawn(called, count=40), "ids").max() == 3


def test_an_index_is_followed_out_of_a_loop_and_a_branch() -> None:
    model = builders.model(
        f"""g (int64[B,S] ids, bool c) => (float[B,S,2] y) <float[4,2] table = {zeros(4, 2)}, int64 trips = {{3}},
            bool go = {{1}}> {{
          looped = Loop (trips, go, ids) <body = b (int64 i, bool d, int64[B,S] v) => (bool e, int64[B,S] w) {{
            e = Identity(d) w = Identity(v) }}>
          chosen = If (c) <then_branch = t () => (int64[B,S] a) {{ a = Identity(looped) }},
                           else_branch = f () => (int64[B,S] z) {{ z = Identity(looped) }}>
          y = Gather(table, chosen)
        }}"""
    )
    assert together(drawn(model, count=40), "ids").max() == 3


def test_the_rows_of_a_quantized_and_of_a_transposed_table_count() -> None:
    model = builders.model(
        """g (int64[B,S] ids) => (float[B,S,2] y)
        <int8[6,2] q = {1,2,3,4,5,6,7,8,9,10,11,12}, float s = {0.5}, float[2,5] w = {1,2,3,4,5,6,7,8,9,10}> {
          table = DequantizeLinear(q, s) tied = Transpose<perm = [1, 0]>(w)
          a = Gather(table, ids) b = Gather(tied, ids) y = Add(a, b)
        }"""
    )
    assert together(drawn(model, count=40), "ids").max() == 4


def test_an_index_into_a_table_of_unknown_size_is_zero() -> None:
    model = builders.model(
        "g (int64[N] ids, float[9] x) => (int64[N] y) { k = NonZero(x) f = Squeeze(k) y = Gather(f, ids) }"
    )
    assert not together(drawn(model), "ids").any()


def test_other_indexed_ops_bound_their_indices() -> None:
    model = builders.model(
        f"""g (int64[1,3] a, int64[B,2] b, int64[B] c, float[1,3] x) => (float[1,3] y, float[B] z, float[B,4] o)
        <float[3,5] t = {zeros(15)}, int64 depth = {{4}}, float[2] onoff = {{0,1}}> {{
          y = GatherElements<axis = 0>(x, a) z = GatherND(t, b) o = OneHot(c, depth, onoff) }}"""
    )
    samples = drawn(model, count=60)
    assert [int(together(samples, name).max()) for name in "abc"] == [0, 2, 3]


def test_an_input_compared_with_constants_gets_one_of_them() -> None:
    model = builders.model(
        """g (float[1,4] x, int64 rate) => (float[1,4] y) <int64 high = {16000}, int64 low = {8000}> {
          is_high = Equal(rate, high) is_low = Equal(low, rate) any = Or(is_high, is_low)
          y = If (any) <then_branch = t () => (float[1,4] a) { a = Relu(x) },
                        else_branch = e () => (float[1,4] b) { b = Neg(x) }>
        }"""
    )
    assert set(together(drawn(model), "rate").tolist()) == {16000}


def test_an_input_compared_with_many_constants_gets_any_of_them() -> None:
    values = ",".join(str(value) for value in range(300, 340))
    model = builders.model(
        f"g (int32[N,1] x) => (bool[N,40] y) <int32[1,40] all = {{{values}}}, int32 two = {{2}}>"
        "{ more = Add(x, two) y = Equal(more, all) }"
    )
    found = together(drawn(model, count=60), "x")
    assert found.min() in (298, 299) and found.max() in (336, 337) and len(set(found.tolist())) > 10


def test_masks_are_ones_by_name_and_by_use() -> None:
    model = builders.model(
        """g (float[B,S] x, int64[B,S] attention_mask, int64[B,S] keep, bool[B,S] visible_mask) => (float[B,S] y)
        <float one = {1}, int64[1] ax = {1}> {
          f = Cast<to = 1>(attention_mask) k = Cast<to = 1>(keep) inverse = Sub(one, k)
          a = Mul(x, f) b = Sub(a, inverse) y = Where(visible_mask, b, x)
        }"""
    )
    for name in ("attention_mask", "keep", "visible_mask"):
        assert together(drawn(model), name).all()


def test_lengths_count_the_sequence_that_is_there() -> None:
    weights = f"float[1,3,2] w = {zeros(3, 2)}, float[1,3,1] r = {zeros(3)}"
    model = builders.model(
        f"""g (float[B,S,2] x, int32[B] n) => (float[1,B,1] h) <{weights}> {{
          t = Transpose<perm = [1, 0, 2]>(x) all, h = GRU<hidden_size = 1>(t, w, r, , n) }}"""
    )
    samples = drawn(model)
    assert {int(feed["n"][0]) for feed in samples} == {samples[0]["x"].shape[1]}


def test_positions_count_up() -> None:
    model = builders.model(
        f"""g (int64[B,S] position_ids) => (float[B,S,2] y) <float[50,2] table = {zeros(50, 2)}> {{
          y = Gather(table, position_ids) }}"""
    )
    assert drawn(model)[0]["position_ids"].tolist() == [list(range(16))]


def test_a_logarithm_is_fed_positive_numbers() -> None:
    model = builders.model("g (float[N,64] x) => (float[N,64] y) { y = Log(x) }")
    assert together(drawn(model), "x").min() > 0


def test_a_single_bool_is_a_switch_that_stays_off() -> None:
    model = builders.model(
        "g (bool[1] switch, bool[N,9] many) => (float[N,9] y) "
        "{ m = Cast<to = 1>(many) s = Cast<to = 1>(switch) y = Mul(m, s) }"
    )
    samples = drawn(model)
    assert not together(samples, "switch").any() and set(together(samples, "many").tolist()) == {False, True}


def test_the_size_of_an_image_is_told_as_it_is() -> None:
    model = builders.model(
        "g (float[N,3,H,W] image, float[N,2] im_shape, int64[N,2] orig_target_sizes, float[N,2] scale)"
        "=> (float[N,2] y) { i = Cast<to = 1>(orig_target_sizes) j = Add(i, im_shape) y = Mul(j, scale) }"
    )
    (feed,) = drawn(model, count=1, dims={"H": 32, "W": 48})
    assert feed["im_shape"].tolist() == feed["orig_target_sizes"].tolist() == [[32, 48]]
    assert feed["scale"].min() >= 0.5 and feed["scale"].max() <= 1


def test_an_image_that_is_inverted_is_no_mask() -> None:
    model = builders.model("g (float[N,3,8,8] x) => (float[N,3,8,8] y) <float one = {1}> { y = Sub(one, x) }")
    assert len(np.unique(together(drawn(model), "x"))) > 100


def test_every_dtype_is_respected() -> None:
    kinds = ("bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float", "double", "string")
    ins = ", ".join(f"{kind}[N,3] i{index}" for index, kind in enumerate(kinds))
    outs = ", ".join(f"{kind}[N,3] o{index}" for index, kind in enumerate(kinds))
    body = " ".join(f"o{index} = Identity(i{index})" for index in range(len(kinds)))
    model = builders.model(f"g ({ins}) => ({outs}) {{ {body} }}")
    feed = drawn(model)[0]
    names = ("bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64", "object")
    assert [feed[f"i{index}"].dtype for index in range(len(kinds))] == [np.dtype(name) for name in names]


def test_seeds_repeat_and_samples_do_not_depend_on_their_number() -> None:
    model = builders.model("g (float[N,8] x, int64[N,8] i) => (float[N,8] y) { y = Relu(x) }")
    few, many, other = drawn(model, 2), drawn(model, 9), drawn(model, 2, seed=1)
    for name in ("x", "i"):
        np.testing.assert_array_equal(few[1][name], many[1][name])
        assert not np.array_equal(few[0][name], few[1][name])
        assert not np.array_equal(few[0][name], other[0][name])


def test_a_coded_input_gets_the_codes_of_what_the_original_gets() -> None:
    plain = builders.model("g (float[N,64] x) => (float[N,64] y) { y = Identity(x) }")
    coded = builders.model("g (uint8[N,64] x) => (uint8[N,64] y) { y = Identity(x) }")
    coded.metadata_props["optimize.input.x"] = '{"scale": 0.05, "zero_point": 128, "dtype": "uint8"}'
    reals, codes = drawn(plain)[3]["x"], drawn(coded)[3]["x"]
    np.testing.assert_allclose((codes.astype(np.float32) - 128) * 0.05, np.clip(reals, -6.4, 6.35), atol=0.0251)
