"""LSTM in dynamic form: the runtime's int8 kernel, nearly the same answers, shared weights kept once."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.model.passes.edit import nodes
from optimizer.quantize import recurrent
from optimizer.runtime import machine
from optimizer.runtime.session import open_session
from tests.quantize.nets import Array, build, noise, normal

HIDDEN, DEEP = 32, 24
SATURATES = not machine.has_vnni()
"""What the command passes on: full-range weights overflow this CPU's sums if it has no VNNI."""


def arrays(directions: int = 1) -> dict[str, Array]:
    return {
        "w": normal(directions, 4 * HIDDEN, DEEP, scale=0.3),
        "r": normal(directions, 4 * HIDDEN, HIDDEN, seed=1, scale=0.3),
        "b": normal(directions, 8 * HIDDEN, seed=2, scale=0.1),
    }


def lstm(how: str = "", result: str = "y", inputs: str = "x, w, r, b") -> str:
    return f"{result}, {result}h = LSTM <hidden_size = {HIDDEN}{how}> ({inputs})"


@pytest.mark.parametrize(("directions", "how"), [(1, ""), (2, ', direction = "bidirectional"')])
@pytest.mark.parametrize("options", [{}, {"saturates": True}, {"per_tensor": True}])
def test_answers_stay_close(directions: int, how: str, options: dict[str, bool]) -> None:
    before = build(f"g (float[7,2,{DEEP}] x) => (y, yh) {{ {lstm(how)} }}", arrays(directions))
    after = before.clone()
    assert recurrent.turn(after, **{"saturates": SATURATES, **options}) == {before.graph[0].name}
    feed = {"x": normal(7, 2, DEEP, seed=3)}
    for want, got in zip(open_session(before).run(feed), open_session(after).run(feed), strict=True):
        assert noise(got, want) < 0.05
    assert not {"w", "r"} & set(after.graph.initializers)


def test_nodes_that_share_weights_in_and_out_of_bodies_share_the_rounded_ones() -> None:
    text = f"""g (float[7,2,{DEEP}] x, bool c) => (y, z) {{ {lstm()} z = If (c)
        <then_branch = t () => (float[A,B,C,D] p) {{ {lstm(result="p")} }},
        else_branch = e () => (float[E,F,G,H] q) {{ q = Neg(y) }}> }}"""
    net = build(text, arrays())
    want = open_session(net).run({"x": normal(7, 2, DEEP), "c": np.array(True)})
    recurrent.turn(net, saturates=SATURATES)
    assert [node.op_type for node in nodes(net)].count("DynamicQuantizeLSTM") == 2
    assert sum(value.const_value.nbytes for value in net.graph.initializers.values() if value.const_value) < 12_000
    for a, b in zip(open_session(net).run({"x": normal(7, 2, DEEP), "c": np.array(True)}), want, strict=True):
        assert noise(a, b) < 0.05


@pytest.mark.parametrize("kind", ["left out", "not finite", "small"])
def test_what_does_not_fit_stays(kind: str) -> None:
    given = arrays()
    if kind == "not finite":
        given["w"][0, 0, 0] = np.nan
    if kind == "small":
        given = {"w": normal(1, 128, 4), "r": given["r"], "b": given["b"]}
    net = build(f"g (float[7,2,{given['w'].shape[2]}] x) => (y, yh) {{ {lstm()} }}", given)
    assert recurrent.turn(net, {"w"} if kind == "left out" else ()) == set()
    assert net.graph[0].op_type == "LSTM"
