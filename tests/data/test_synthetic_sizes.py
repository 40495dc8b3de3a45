"""The sizes that synthetic samples have where a model leaves them open."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from optimizer.data import sizes
from optimizer.data.spec import open_samples
from optimizer.errors import ConfigError, DataError
from optimizer.model import io, shapes
from tests import builders
from tests.data.drawn import LIGHT, drawn, zeros


def found_sizes(text: str) -> dict[str, int]:
    model = builders.model(text)
    shapes.infer(model)
    return next(sizes.candidates(model))


@pytest.mark.parametrize(
    ("inputs", "want"),
    [
        ("float[batch,3,height,width] x", {"batch": 1, "height": 224, "width": 224}),
        ("float[N,H,W,3] x", {"N": 1, "H": 224, "W": 224}),
        ("float[N,3,48,W] x", {"N": 1, "W": 320}),
        ("float[N,1,H,W] x", {"N": 1, "H": 28, "W": 28}),
        ("int64[batch,sequence] x", {"batch": 1, "sequence": 16}),
        ("float[seq_len,batch,40] x", {"seq_len": 16, "batch": 1}),
        ("float[N,80,T] x", {"N": 1, "T": 16}),
        ("float[N,T] x", {"N": 1, "T": 2048}),
        ("float[N,sequence] x", {"N": 1, "sequence": 2048}),
        ("float[N,sequence] x, int64[N,sequence] ids", {"N": 1, "sequence": 16}),
        ("float[N,4,H,W] x", {"N": 1, "H": 64, "W": 64}),
        (
            "int64[b,sequence] x, int64[b,past_sequence_length_plus_1] m, float[b,4,past_sequence_length,8] k",
            {"b": 1, "sequence": 16, "past_sequence_length_plus_1": 17, "past_sequence_length": 16},
        ),
        (
            "int64[b,sequence_length] x, int64[b,total_sequence_length] m, float[b,4,past_sequence_length,8] k",
            {"b": 1, "sequence_length": 16, "total_sequence_length": 32, "past_sequence_length": 16},
        ),
    ],
)
def test_names_and_places_tell_sizes(inputs: str, want: dict[str, int]) -> None:
    model = builders.model(f"g ({inputs}) => (bool y) {{ y = Constant<value = bool {{1}}>() }}")
    for value in model.graph.inputs:
        value.shape = ir.Shape(
            [str(dim).replace("_plus_", " + ") if isinstance(dim, ir.SymbolicDim) else dim for dim in value.shape or ()]
        )
    assert next(sizes.candidates(model)) == {name.replace("_plus_", " + "): size for name, size in want.items()}


@pytest.mark.parametrize(
    ("text", "symbol", "size"),
    [
        (f"g (float[N,F] x) => (float[N,2] y) <float[7,2] w = {zeros(7, 2)}> {{ y = MatMul(x, w) }}", "F", 7),
        (
            f"g (float[N,F] x) => (float[N,2] y) <float[2,7] w = {zeros(7, 2)}> {{ y = Gemm<transB = 1>(x, w) }}",
            "F",
            7,
        ),
        (
            f"g (float[N,C,8,8] x) => (float[N,2,8,8] y) <float[2,5,1,1] w = {zeros(10)}> {{ y = Conv(x, w) }}",
            "C",
            5,
        ),
        (
            f"g (float[N,8,8,C] x) => (float[N,2,8,8] y) <float[2,5,1,1] w = {zeros(10)}> "
            "{ t = Transpose<perm = [0, 3, 1, 2]>(x) y = Conv(t, w) }",
            "C",
            5,
        ),
        (
            f"g (int64[B,S] x) => (float[B,S,2] y) <float[9,2] t = {zeros(18)}, float[1,12,2] p = {zeros(24)}> "
            "{ e = Gather(t, x) y = Add(e, p) }",
            "S",
            12,
        ),
        (
            f"g (float[T,B,F] x) => (float[T,1,B,1] y) <float[1,3,6] w = {zeros(18)}, float[1,3,1] r = {zeros(3)}> "
            "{ y = GRU<hidden_size = 1>(x, w, r) }",
            "F",
            6,
        ),
    ],
)
def test_the_graph_prescribes_sizes(text: str, symbol: str, size: int) -> None:
    assert found_sizes(text)[symbol] == size
    drawn(builders.model(text))


def test_anonymous_axes_are_named_after_their_input() -> None:
    model = builders.model("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    model.graph.inputs[0].shape = ir.Shape([-1, 3, "?", None])
    assert next(sizes.candidates(model)) == {"x[0]": 1, "x[2]": 224, "x[3]": 224}
    assert open_samples(None, model, dims={"x[2]": 5})[0]["x"].shape == (1, 3, 5, 5)


def test_dims_win_and_unknown_names_are_refused() -> None:
    model = builders.model("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    samples = drawn(model, dims={"N": 2, "H": 9})
    assert samples[0]["x"].shape[:3] == (2, 3, 9) and "H=9" in samples.source
    with pytest.raises(ConfigError, match="--dim height: the model's inputs have N, H, W"):
        drawn(model, dims={"height": 9})


@pytest.mark.parametrize("flat", [3 * 32 * 32, 3 * 299 * 299, 3 * 64 * 64])
def test_sizes_are_tried_until_the_model_runs(flat: int) -> None:
    model = builders.model(
        f"g (float[N,3,H,W] x) => (float[N,{flat}] y) <int64[2] s = {{-1,{flat}}}, float[1,{flat}] b = {zeros(flat)}> "
        "{ f = Flatten(x) y = Add(f, b) }"
    )
    assert drawn(model, count=1)[0]["x"].size == flat


def test_a_model_that_runs_on_nothing_says_which_sizes_to_give() -> None:
    model = builders.model("g (float[N,T] x) => (float[N,T] y) { y = Relu(x) }")
    with pytest.raises(DataError, match=r"\(open dimensions: N, T\); give samples with --data, or sizes with --dim"):
        open_samples(None, model, runs=lambda _: False)


def test_the_model_is_left_as_it_was() -> None:
    model = builders.model("g (float[N,T] x) => (float[N,T] y) { z = Relu(x) y = Neg(z) }")
    before = io.to_bytes(model)
    drawn(model)
    assert io.to_bytes(model) == before


@pytest.mark.parametrize("name", ["bvlc_alexnet", "squeezenet", "shufflenet"])
def test_onnx_light_models_run(name: str) -> None:
    drawn(io.load(LIGHT / f"light_{name}.onnx"), count=1)
