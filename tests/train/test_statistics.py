"""Statistics of batch normalization that are not those of the student: taken anew, layer after layer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.data.samples import Samples, in_memory  # noqa: E402
from optimizer.train.constants import constants  # noqa: E402
from optimizer.train.distill import distill, prepare  # noqa: E402
from optimizer.train.statistics import settled  # noqa: E402
from tests.builders import model  # noqa: E402
from tests.train.learning import QUICK, network, numbers  # noqa: E402
from tests.train.learning import data as rows  # noqa: E402

ONES = ", ".join(["1.0"] * 5)
GRAPH = f"""g (float[n,3,6,6] x) => (float[n,4] y) <float[5,3,3,3] w = {{{numbers(5, 3, 3, 3)}}},
    float[5] s = {{{ONES}}}, float[5] b = {{{numbers(5)}}}, float[5] m = {{{numbers(5)}}}, float[5] v = {{{ONES}}},
    float[5,5,3,3] w2 = {{{numbers(5, 5, 3, 3)}}}, float[5] m2 = {{{numbers(5)}}}, float[5] v2 = {{{ONES}}},
    float[5,4] l = {{{numbers(5, 4)}}}> {{
    c = Conv(x, w) n1 = BatchNormalization(c, s, b, m, v) r = Relu(n1)
    d = Conv(r, w2) n2 = BatchNormalization(d, s, b, m2, v2) e = Relu(n2)
    p = GlobalAveragePool(e) f = Flatten(p) y = MatMul(f, l) }}"""


def images(count: int = 60) -> Samples:
    array = np.random.default_rng(3).normal(0.5, 1, (count, 1, 3, 6, 6)).astype(np.float32)
    return in_memory([{"x": image} for image in array], joinable=True)


def arrays(found: ir.Model) -> dict[str, Any]:
    return {key: torch.from_numpy(np.array(constant.array())) for key, constant in constants(found).items()}


def of(tensor: Any) -> tuple[Any, Any]:
    return tensor.mean((0, 2, 3)), tensor.var((0, 2, 3), correction=0)


def test_each_layer_gets_the_statistics_of_what_the_layers_before_it_answer_with_theirs() -> None:
    student, samples = model(GRAPH), images()
    trainer = prepare(student, model(GRAPH), samples, QUICK, 0, 1)
    found = settled(student, trainer, samples, 0)
    assert found is not None
    new, convolve = arrays(found), torch.nn.functional.conv2d
    first = convolve(torch.from_numpy(np.concatenate([feed["x"] for feed in samples])), new["w"])
    mean, variance = of(first)
    hidden = torch.nn.functional.batch_norm(first, mean, variance, new["s"], new["b"]).relu()
    for expected, key in zip((mean, variance, *of(convolve(hidden, new["w2"]))), ("m", "v", "m2", "v2"), strict=True):
        assert torch.allclose(new[key], expected, rtol=1e-3, atol=1e-4), key
    assert all(torch.equal(new[key], array) for key, array in arrays(student).items() if key[0] not in "mv")


def test_a_student_with_new_weights_begins_with_its_own_statistics() -> None:
    student = model(GRAPH)
    held = constants(student)["w"]
    held.replace(30 * held.array()[::-1])
    found = distill(student, model(GRAPH), images(), dataclasses.replace(QUICK, epochs=2))
    assert found.settled
    assert float(arrays(found.model)["v"].mean()) > 100 * float(arrays(student)["v"].mean())
    assert found.after.loss < 0.5 * found.before.loss


def test_a_student_whose_statistics_fit_keeps_them() -> None:
    teacher = model(GRAPH)
    samples = images()
    fitted = settled(teacher, prepare(teacher, teacher, samples, QUICK, 0, 1), samples, 0)
    assert fitted is not None
    student = fitted.clone()
    held = constants(student)["l"]
    held.replace(held.array() + np.float32(0.01))
    found = distill(student, fitted, samples, dataclasses.replace(QUICK, epochs=2))
    assert not found.settled
    assert torch.equal(arrays(found.model)["m2"], arrays(fitted)["m2"])


def test_a_model_without_such_layers_has_none_to_take() -> None:
    student, samples = network(), rows()
    assert settled(student, prepare(student, network(), samples, QUICK, 0, 1), samples, 0) is None
