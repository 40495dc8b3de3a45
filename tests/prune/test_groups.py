"""What a model's axes are found to tie together, and what is frozen and why."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.calibrate import equality
from optimizer.prune import prepare, remove
from optimizer.prune.groups import Axes, analyse
from tests import builders
from tests.prune.equality import some_labels


def model(text: str, opset: int = 17, **weights: tuple[int, ...]) -> ir.Model:
    """A model from text whose named values are random initializers."""
    found = builders.model(text, opset)
    rng = np.random.default_rng(0)
    for name, shape in weights.items():
        tensor = ir.tensor(rng.standard_normal(shape).astype(np.float32), name=name)
        own = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        given = next(value for value in found.graph.inputs if value.name == name)
        ir.convenience.replace_all_uses_with(given, own)
        found.graph.inputs.remove(given)
        found.graph.register_initializer(own)
    return found


def axes(text: str, opset: int = 17, **weights: tuple[int, ...]) -> Axes:
    return analyse(prepare.prepare(model(text, opset, **weights)))


def places(found: Axes) -> list[tuple[int, set[str]]]:
    return sorted((len(g.labels), {f"{v.name}.{i}" for v, i in g.places}) for g in found.groups)


def reasons(found: Axes) -> dict[str, str]:
    return {f"{frozen.tensor}.{frozen.axis}": frozen.reason for frozen in found.frozen()}


TWO_CONVS = """g (float[n,3,8,8] x, float[4,3,3,3] w, float[4] b, float[5,4,1,1] v) => (float[n,5,6,6] y) {
    c = Conv (x, w, b)  r = Relu (c)  y = Conv (r, v) }"""


def test_a_channel_ties_its_filter_its_bias_and_the_column_of_the_next_layer() -> None:
    found = axes(TWO_CONVS, w=(4, 3, 3, 3), b=(4,), v=(5, 4, 1, 1))
    assert places(found) == [(4, {"w.0", "b.0", "v.1"})]


def test_graph_inputs_and_outputs_freeze_with_their_names() -> None:
    found = axes(TWO_CONVS, w=(4, 3, 3, 3), b=(4,), v=(5, 4, 1, 1))
    assert reasons(found) == {"w.1": "graph input 'x'", "v.0": "graph output 'y'"}


def test_a_residual_connection_ties_both_sides() -> None:
    text = """g (float[1,3,4,4] x, float[4,3,1,1] w, float[4,4,1,1] v, float[2,4,1,1] u) => (float[1,2,4,4] y) {
        a = Conv (x, w)  b = Conv (a, v)  c = Add (a, b)  y = Conv (c, u) }"""
    found = axes(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1), u=(2, 4, 1, 1))
    assert places(found) == [(4, {"w.0", "v.0", "v.1", "u.1"})]


def test_heads_and_dims_of_decomposed_attention_are_groups_of_their_own() -> None:
    text = """g (float[n,5,6] x, float[6,8] q, float[6,8] k, float[6,8] v, float[8,6] o, int64[4] s, int64[3] t)
        => (float[n,5,6] y) {
        a = MatMul (x, q)  a1 = Reshape (a, s)  a2 = Transpose <perm=[0,2,1,3]> (a1)
        b = MatMul (x, k)  b1 = Reshape (b, s)  b2 = Transpose <perm=[0,2,3,1]> (b1)
        c = MatMul (x, v)  c1 = Reshape (c, s)  c2 = Transpose <perm=[0,2,1,3]> (c1)
        d = MatMul (a2, b2)  e = Softmax <axis=-1> (d)  f = MatMul (e, c2)
        f1 = Transpose <perm=[0,2,1,3]> (f)  f2 = Reshape (f1, t)  y = MatMul (f2, o) }"""
    found = model(text, q=(6, 8), k=(6, 8), v=(6, 8), o=(8, 6))
    for name, numbers in (("s", [0, 5, 2, 4]), ("t", [0, 5, 8])):
        given = next(value for value in found.graph.inputs if value.name == name)
        tensor = ir.tensor(np.array(numbers, np.int64), name=name)
        found.graph.inputs.remove(given)
        given.const_value = tensor
        found.graph.register_initializer(given)
    groups = analyse(prepare.prepare(found)).groups
    assert sorted((g.kind, len(g.labels), len(g.places)) for g in groups) == [
        ("channel", 4, 2),
        ("channel", 4, 2),
        ("head", 2, 4),
    ]


def test_an_op_without_a_rule_freezes_what_it_touches_and_is_named() -> None:
    text = """g (float[1,3,4,4] x, float[4,3,1,1] w, float[4,4,1,1] v) => (float[1,4,4,4] y) {
        a = Conv (x, w)  b = custom.Mystery (a)  y = Conv (b, v) }"""
    found = model(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1))
    found.graph.opset_imports["custom"] = 1
    found = analyse(prepare.prepare(found))
    assert reasons(found)["w.0"] == "Mystery 'b' has no axis rule"
    assert not found.groups


def test_what_a_subgraph_reads_stays_whole() -> None:
    text = """g (bool c, float[2,3] x, float[3,4] w, float[4,5] v) => (float[2,5] y) {
        h = MatMul (x, w)
        y = If (c) <then_branch = t () => (float[2,5] p) { p = MatMul (h, v) },
                    else_branch = e () => (float[2,5] q) { q = If (c) <then_branch = t2 () => (float[2,5] p2)
                        { p2 = MatMul (h, v) }, else_branch = e2 () => (float[2,5] q2) { q2 = MatMul (h, v) }> }> }"""
    found = axes(text, w=(3, 4), v=(4, 5))
    assert not found.groups
    assert "reads it in a subgraph" in reasons(found)["w.1"]


def test_both_branches_give_what_they_gave_since_what_they_read_stays_whole() -> None:
    text = """g (bool c, float[2,3] x, float[3,4] w, float[4,4] v, float[4,5] u, float[4,5] t) => (float[2,5] y) {
        h = MatMul (x, w)  r = Relu (h)  g = MatMul (r, v)
        y = If (c) <then_branch = a () => (float[2,5] p) { p = MatMul (g, u) },
                    else_branch = b () => (float[2,5] q) { s = Shape (g)  z = Reshape (g, s)  q = MatMul (z, t) }> }"""
    removed = prepare.prepare(model(text, w=(3, 4), v=(4, 4), u=(4, 5), t=(4, 5)))
    masked, found = removed.clone(), analyse(removed)
    dropped = some_labels(found, 0.5, 0)
    remove.mask(found, dropped, masked.graph)
    remove.remove(found, dropped)
    assert removed.graph.initializers["w"].shape == (3, 2)
    feeds = [{"c": np.array(taken), "x": np.ones((2, 3), np.float32)} for taken in (True, False)]
    assert equality.prove(removed, masked, feeds) < 1e-6


def test_vectors_that_layers_share_by_chance_tie_nothing() -> None:
    text = """g (float[1,3] x, float[3,4] w, float[4] b, float[4,4] v, float[4,2] u) => (float[1,2] y) {
        a = MatMul (x, w)  a1 = Add (a, b)  c = MatMul (a1, v)  c1 = Add (c, b)  y = MatMul (c1, u) }"""
    found = axes(text, w=(3, 4), b=(4,), v=(4, 4), u=(4, 2))
    assert [count for count, _ in places(found)] == [4, 4]


def test_a_matrix_used_twice_is_one_matrix() -> None:
    text = """g (int64[1,2] x, float[9,4] w) => (float[1,2,9] y) {
        e = Gather (w, x)  t = Transpose (w)  y = MatMul (e, t) }"""
    assert places(axes(text, w=(9, 4))) == [(4, {"w.1"})]


def test_an_axis_never_loses_its_only_channel() -> None:
    text = """g (float[1,3] x, float[3,4] w, float[1,2] v, int64[1] i) => (float[1,2] y) {
        a = MatMul (x, w)  b = Gather <axis=1> (a, i)  y = MatMul (b, v) }"""
    found = model(text, w=(3, 4), v=(1, 2))
    index = next(value for value in found.graph.inputs if value.name == "i")
    found.graph.inputs.remove(index)
    index.const_value = ir.tensor(np.array([2], np.int64), name="i")
    found.graph.register_initializer(index)
    result = analyse(prepare.prepare(found))
    w = result.graph.initializers["w"]
    layout = result.layouts[w]
    assert layout is not None
    assert result.labels.frozen(layout[1].labels).tolist() == [False, False, True, False]


def test_sums_over_what_is_not_zero_when_removed_freeze() -> None:
    text = """g (float[1,3] x, float[3,4] w, float[3,4] v) => (float[1,1] y) {
        a = MatMul (x, w)  s = Sigmoid (a)  t = Transpose (s)  y = MatMul (s, t) }"""
    found = axes(text, w=(3, 4), v=(3, 4))
    assert "not zero where a channel is gone" in reasons(found)["w.1"]


def test_a_zero_that_is_encoded_and_decoded_is_a_zero() -> None:
    text = """g (float[1,3] x, float[3,4] w, float s, uint8 p, uint8 q) => (float[1,1] y) {
        a = MatMul (x, w)  b = QuantizeLinear (a, s, p)  c = DequantizeLinear (b, s, POINT)
        t = Transpose (c)  z = Sigmoid (t)  y = MatMul (c, z) }"""
    for point, free in (("p", True), ("q", False)):
        found = model(text.replace("POINT", point), w=(3, 4))
        for name, number in (("s", np.float32(0.1)), ("p", np.uint8(3)), ("q", np.uint8(4))):
            given = next(value for value in found.graph.inputs if value.name == name)
            found.graph.inputs.remove(given)
            given.const_value = ir.tensor(np.array(number), name=name)
            found.graph.register_initializer(given)
        assert ("w.1" not in reasons(analyse(prepare.prepare(found)))) == free


def test_a_target_put_together_from_numbers_and_computed_sizes_tells_its_numbers() -> None:
    text = """g (float[n,t,6] x, float[6,8] w, float[8,3] v) => (float[n,t,3] y)
        <int64[1] p = {0}, int64[1] q = {2}> {
        e = Shape (x)  a = MatMul (x, w)  z = Slice (e, p, q)
        m = Constant <value_ints = [2, 4]> ()  s = Concat <axis = 0> (z, m)
        b = Reshape (a, s)  c = Transpose <perm = [0, 1, 3, 2]> (b)  d = Transpose <perm = [0, 1, 3, 2]> (c)
        k = Constant <value_ints = [8]> ()  h = Concat <axis = 0> (z, k)
        i = Reshape (d, h)  y = MatMul (i, v) }"""
    found = axes(text, w=(6, 8), v=(8, 3))
    assert places(found) == [(2, {"w.1", "v.0"}), (4, {"w.1", "v.0"})]


def test_channels_between_copied_and_open_sizes_keep_their_place() -> None:
    text = """g (float[n,3,h,k] x, float[6,3,1,1] w, float[6,2] v) => (float[n,m,2] y) {
        c = Conv (x, w)  s = Constant <value_ints = [0, 0, -1]> ()  f = Reshape (c, s)
        t = Transpose <perm = [0, 2, 1]> (f)  y = MatMul (t, v) }"""
    assert places(axes(text, w=(6, 3, 1, 1), v=(6, 2))) == [(6, {"w.0", "v.0"})]
