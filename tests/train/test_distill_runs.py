"""Learning from a teacher: going on after a kill, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.data.samples import Samples  # noqa: E402
from optimizer.errors import BoundMissed, ConfigError, DataError  # noqa: E402
from optimizer.model import io  # noqa: E402
from optimizer.recipe import Finetune  # noqa: E402
from optimizer.train import checkpoint  # noqa: E402
from optimizer.train.distill import Outcome, distill  # noqa: E402
from optimizer.train.table import Unsupported  # noqa: E402
from tests.builders import model  # noqa: E402
from tests.train.learning import QUICK, damaged, data, network, numbers  # noqa: E402


class Killed(Exception):
    pass


def killed_at(step: int) -> Any:
    def watch(now: int, steps: int, loss: float, agreement: float | None) -> None:
        if now == step:
            raise Killed

    return watch


def test_a_run_that_was_killed_goes_on_to_the_same_result(tmp_path: Path) -> None:
    teacher, output = network(), tmp_path / "out.onnx"
    step = dataclasses.replace(QUICK, augment="noise=0.1")
    whole = distill(damaged(teacher), teacher, data(), step)
    with pytest.raises(Killed):
        distill(damaged(teacher), teacher, data(), step, output=output, watch=killed_at(50))
    assert checkpoint.path_of(output).exists()
    steps: list[int] = []
    rest = distill(damaged(teacher), teacher, data(), step, output=output, resume=True,
                   watch=lambda now, *_: steps.append(now))  # fmt: skip
    assert 1 < steps[0] <= 50
    assert io.to_bytes(rest.model) == io.to_bytes(whole.model)
    assert rest.history == whole.history
    assert not checkpoint.path_of(output).exists()


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    teacher, output = network(), tmp_path / "out.onnx"
    with pytest.raises(Killed):
        distill(damaged(teacher), teacher, data(), QUICK, output=output, watch=killed_at(50))
    with pytest.raises(ConfigError, match="another run"):
        distill(damaged(teacher), teacher, data(), QUICK, seed=1, output=output, resume=True)
    checkpoint.path_of(output).write_bytes(b"PK nonsense")
    with pytest.raises(ConfigError, match="cannot be read"):
        distill(damaged(teacher), teacher, data(), QUICK, output=output, resume=True)


def refusal(student: ir.Model, teacher: ir.Model, samples: Samples, step: Finetune = QUICK) -> Outcome:
    return distill(student, teacher, samples, step)


def test_a_student_that_answers_as_its_teacher_is_refused() -> None:
    with pytest.raises(BoundMissed, match="nothing to win back"):
        refusal(network(), network(), data())


def test_a_run_that_finds_nothing_better_is_refused() -> None:
    step = dataclasses.replace(QUICK, epochs=2, lr=1.0, clip=0, ema=0.0)
    with pytest.raises(BoundMissed, match="did better than the start"):
        refusal(damaged(network(), 0.01), network(), data(), step)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(BoundMissed, match="3 samples are not enough"):
        refusal(damaged(network()), network(), data(3))


def test_a_student_without_weights_is_refused() -> None:
    idle = model("g (float[n,6] x) => (float[n,6] y) { y = Relu(x) }")
    with pytest.raises(BoundMissed, match="nothing in the student can change"):
        refusal(idle, idle, data())


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(BoundMissed, match="not finite"):
        refusal(damaged(network()), network(), data(), dataclasses.replace(QUICK, lr=100.0, clip=0, optimizer="sgd"))


def test_an_op_without_gradient_is_named() -> None:
    odd = model("g (float[n,6] x) => (float[n,6] y) { y = com.acme.Twist(x) }", extra_opsets=', "com.acme": 1')
    with pytest.raises(Unsupported, match="Twist"):
        refusal(odd, network(), data())


def test_models_that_take_different_inputs_are_refused() -> None:
    other = model("g (float[n,6] x, float[n,6] z) => (float[n,4] y) <float[6,4] w = {%s}> { t = Add(x, z) y = MatMul(t, w) }" % numbers(6, 4))  # fmt: skip  # noqa: E501, UP031
    with pytest.raises(DataError, match="different inputs"):
        refusal(other, network(), data())


def test_outputs_of_different_shapes_are_refused() -> None:
    other = model("g (float[n,6] x) => (float[n,3] y) <float[6,3] w = {%s}> { y = MatMul(x, w) }" % numbers(6, 3))  # noqa: UP031
    with pytest.raises(DataError, match="shape"):
        refusal(other, network(), data())


def test_labels_without_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="labels"):
        refusal(damaged(network()), network(), data(), dataclasses.replace(QUICK, labels=1.0))


def test_a_chosen_output_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to learn from"):
        refusal(damaged(network()), network(), data(), dataclasses.replace(QUICK, outputs=("z*",)))
