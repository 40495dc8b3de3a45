"""Learning from a teacher: what it wins back, what it keeps, what it refuses, and going on after a kill."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.model import io  # noqa: E402
from optimizer.train import checkpoint, loop, rates  # noqa: E402
from optimizer.train.constants import constants  # noqa: E402
from optimizer.train.distill import distill, prepare, worth  # noqa: E402
from optimizer.train.supply import Supply  # noqa: E402
from optimizer.train.teacher import Teacher  # noqa: E402
from optimizer.train.training import Score  # noqa: E402
from tests.builders import model  # noqa: E402
from tests.train.learning import QUICK, W1, W2, answers, damaged, data, error, network, numbers, pruned  # noqa: E402


def test_a_damaged_student_comes_back_and_its_graph_stays() -> None:
    teacher = network()
    student = damaged(teacher)
    found = distill(student, teacher, data(), QUICK)
    assert error(found.model, teacher) < 0.1 * error(student, teacher)
    assert found.after.loss < found.before.loss
    assert max(found.parity) < 1e-5
    assert [node.op_type for node in found.model.graph] == [node.op_type for node in student.graph]
    assert list(found.model.graph.initializers) == list(student.graph.initializers)
    assert found.model.opset_imports == student.opset_imports


def test_the_student_that_was_given_is_not_touched() -> None:
    student = damaged(network())
    before = io.to_bytes(student)
    distill(student, network(), data(), QUICK)
    assert io.to_bytes(student) == before


def test_pruned_weights_stay_pruned() -> None:
    teacher = network()
    student = pruned(teacher)
    found = distill(student, teacher, data(256), QUICK)
    for name in ("w1", "w2"):
        zeros = constants(student)[name].array() == 0
        assert zeros.mean() >= 0.5 - 1e-9
        assert np.array_equal(constants(found.model)[name].array() == 0, zeros)
    assert error(found.model, teacher) < 0.6 * error(student, teacher)


@pytest.mark.parametrize("tail", ["y = Softmax(t)", "y = LogSoftmax(t)", "y = LpNormalization(t)", "y = Sigmoid(t)"])
def test_outputs_of_every_kind_are_learnt(tail: str) -> None:
    teacher = network(tail=tail)
    student = damaged(teacher)
    found = distill(student, teacher, data(), QUICK)
    assert error(found.model, teacher) < 0.3 * error(student, teacher)


def test_a_model_whose_file_fixes_the_batch_learns_as_well() -> None:
    teacher = network("1")
    student = damaged(teacher)
    found = distill(student, teacher, data(), QUICK)
    assert error(found.model, teacher) < 0.1 * error(student, teacher)


def test_a_model_that_takes_no_batches_learns_sample_by_sample() -> None:
    tail = """one = Constant<value = int64[1] {4}>() r = Reshape(t, one)
        k = Constant<value = int64[2] {1, 4}>() y = Reshape(r, k)"""
    teacher = network("1", tail)
    found = distill(damaged(teacher), teacher, data(24), dataclasses.replace(QUICK, epochs=20))
    assert error(found.model, teacher) < 0.3 * error(damaged(teacher), teacher)


def test_a_student_of_another_architecture_learns() -> None:
    teacher = network()
    student = model(f"""g (float[n,6] input) => (float[n,4] scores) <float[6,8] u = {{{numbers(6, 8, scale=0.4)}}},
        float[8] v = {{{numbers(8, scale=0.1)}}}, float[8,4] o = {{{numbers(8, 4, scale=0.4)}}}> {{
        a = Gemm(input, u, v) c = Tanh(a) scores = MatMul(c, o) }}""")
    found = distill(student, teacher, data(128), dataclasses.replace(QUICK, epochs=60))
    assert found.after.loss < 0.3 * found.before.loss


def halved(whole: ir.Model) -> ir.Model:
    for value in (*whole.graph.inputs, *whole.graph.outputs, *whole.graph.initializers.values()):
        value.dtype = ir.DataType.FLOAT16
        if value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float16), name=value.name)
    return whole


def test_a_student_of_half_precision_learns_from_a_teacher_of_full() -> None:
    found = distill(damaged(halved(network())), network(), data(), QUICK)
    assert constants(found.model)["w1"].dtype == ir.DataType.FLOAT16
    assert found.after.loss < 0.3 * found.before.loss


def test_an_output_can_be_learnt_by_itself_whatever_the_others_do() -> None:
    two = """g (float[n,6] x) => (float[n,4] y, float[k,3] z) <float[6,4] w = {%s}, int64 most = {3},
        int64[1] zero = {0}> {
        y = MatMul(x, w) b = Unsqueeze(y, zero) q = Transpose <perm = [0, 2, 1]> (b)
        i = NonMaxSuppression(b, q, most) z = Cast <to = 1> (i) }"""
    teacher = model(two % numbers(6, 4))
    found = distill(damaged(teacher), teacher, data(), dataclasses.replace(QUICK, outputs=("y",)))
    assert found.after.loss < 0.3 * found.before.loss


def test_an_int8_student_learns_and_stays_int8() -> None:
    weights = "0.5, -1, 0.25, 0.75, -0.6, 0.1, 0.9, -0.3, 0.2, 0.4, 1, -1"
    teacher = model(f"g (float[n,6] x) => (float[n,2] y) <float[6,2] w = {{{weights}}}> {{ y = MatMul(x, w) }}")
    student = model("""g (float[n,6] x) => (float[n,2] y) <float s = {0.005}, uint8 z = {128}, float ws = {0.02},
        int8[6,2] w = {30,-50,60,40,-30,1,50,-60,1,20,100,-50}> {
        q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) v = DequantizeLinear(w, ws) y = MatMul(f, v) }""")
    found = distill(student, teacher, data(128), QUICK)
    assert constants(found.model)["w"].dtype == ir.DataType.INT8
    assert float(constants(found.model)["s"].array()) > 0.006
    assert error(found.model, teacher) < 0.3 * error(student, teacher)


def test_the_learning_rate_is_found_by_trying() -> None:
    teacher = network()
    found = distill(damaged(teacher), teacher, data(), dataclasses.replace(QUICK, lr=None))
    assert found.rate >= 1e-3
    assert error(found.model, teacher) < 0.5 * error(damaged(teacher), teacher)


def chosen(monkeypatch: pytest.MonkeyPatch, *rounds: tuple[float, ...]) -> tuple[float, list[float]]:
    """The rate that is taken where trials of each round leave these losses, and the rates of the second round."""
    longer: list[float] = []

    def trial(self: Any, rate: float, steps: int) -> float:
        longer.extend([rate] * (steps > rates.STEPS))
        return rounds[steps > rates.STEPS][rates.RATES["adamw"].index(rate)]

    monkeypatch.setattr(rates.Trials, "trial", trial)
    trainer = prepare(damaged(network()), network(), data(), QUICK, 0, 1)
    return rates.best_rate(trainer, data(), data(), 0), longer


def test_of_rates_that_do_about_equally_well_the_highest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = (1.07, 1.01, 1.0, 1.005, 2.0, 3.0)
    assert chosen(monkeypatch, alike, alike)[0] == rates.RATES["adamw"][1]


def test_a_rate_that_disturbs_at_first_may_win_in_the_longer_round(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, longer = chosen(monkeypatch, (9.0, 1.9, 1.5, 1.4, 1.2, 1.0, 1.0), (0.0, 0.9, 0.5, 0.7, 0.9, 1.0, 1.0))
    assert rate == rates.RATES["adamw"][2]
    assert longer == list(rates.RATES["adamw"][1:5])


def test_small_operators_are_not_split_among_threads() -> None:
    assert worth(network(), 16, 4) == 1
    assert worth(network(), 10**8, 4) == 4


def test_a_teacher_of_one_row_answers_rows_that_are_joined_already_one_by_one() -> None:
    rows = {"x": np.random.default_rng(0).normal(0, 1, (3, 6)).astype(np.float32)}
    one, many = Teacher(network("1")), Teacher(network())
    many.try_joining({"x": rows["x"][:1]}, {"x": rows["x"][1:2]})
    found = one.answer_rows(rows, 3)["y"]
    assert found.shape == (3, 4)
    assert np.allclose(found, many.answer_rows(rows, 3)["y"], atol=1e-6)


def test_a_rate_that_leads_a_nearly_right_student_astray_is_lowered() -> None:
    teacher = network()
    student = damaged(teacher, 0.02)
    found = distill(student, teacher, data(), dataclasses.replace(QUICK, lr=1.0))
    assert found.rate < 0.5
    assert found.after.loss < found.before.loss
    assert error(found.model, teacher) < error(student, teacher)


@pytest.mark.parametrize(
    ("judged", "lowered"),
    [
        ((1.5, 1.4, 1.3, 1.2), 0),  # disturbed at first, on the way back
        ((1.5, 1.6, 1.4, 1.5, 1.3), 0),
        ((1.5, 1.6, 1.7), 1),
        ((1.5, 1.6, 1.7, 1.4, 1.5, 1.6), 2),
        ((0.9, 1.5, 1.6, 1.7), 0),  # something was gained
    ],
)
def test_only_a_student_that_comes_no_nearer_goes_back(
    judged: tuple[float, ...], lowered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = prepare(damaged(network()), network(), data(), QUICK, 0, 1)
    losses = iter(judged)
    monkeypatch.setattr(trainer, "score", lambda samples: Score(next(losses)))
    run = loop.Loop(trainer, Supply(trainer, data(), 0, 16, ahead=False), data(), 1.0, None, lambda *said: None)
    best = {f"best/{name}": array for name, array in trainer.parameters.state().items()}
    state = checkpoint.State(0, 0.0, 1.0, 0, 1.0, 0, math.inf, 0, [], best)
    for state.step in range(1, len(judged) + 1):
        run._judge(state, 1.0, Score(1.0))
    assert state.rate == pytest.approx(loop.BACK_OFF**lowered)


@pytest.mark.parametrize(("minutes", "most"), [(0.05, 40), (None, 7 * rates.STEPS * (1 + rates.LONGER))])
def test_where_time_is_short_it_is_spent_on_training_not_on_trying(
    minutes: float | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    descend, tried = rates.descend, []

    def slow(*given: Any) -> float:
        tried.append(given[-1])
        time.sleep(0.02 if minutes else 0)
        return descend(*given)

    monkeypatch.setattr(rates, "descend", slow)
    step = dataclasses.replace(QUICK, lr=None, minutes=minutes)
    found = distill(damaged(network()), network(), data(), step)
    assert found.steps > 0
    assert len(tried) <= most
    assert minutes or len(tried) > 40


def test_a_run_that_nothing_bounds_ends_in_its_usual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    descend = loop.descend

    def slow(*given: Any) -> float:
        time.sleep(0.01)
        return descend(*given)

    monkeypatch.setattr(loop, "descend", slow)
    monkeypatch.setattr("optimizer.recipe.steps.USUAL_MINUTES", 0.01)
    step = dataclasses.replace(QUICK, epochs=None)
    assert step.limit == 0.01
    assert dataclasses.replace(step, epochs=5).limit is None
    found = distill(damaged(network()), network(), data(), step)
    assert 0.6 <= found.seconds < 1.0
    assert found.history[-1][0] == found.steps < 100


def test_a_run_that_has_time_enough_does_the_same_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    descend, pauses = loop.descend, [0.4]

    def hesitant(*given: Any) -> float:
        time.sleep(pauses.pop() if pauses else 0)
        return descend(*given)

    free = distill(damaged(network()), network(), data(), QUICK)
    monkeypatch.setattr(loop, "descend", hesitant)
    bounded = distill(damaged(network()), network(), data(), dataclasses.replace(QUICK, minutes=0.5))
    assert bounded.history == free.history


@pytest.mark.parametrize("features", [0.0, 1.0, 3.0])
def test_tensors_inside_count_as_much_as_was_asked_beside_the_outputs(features: float) -> None:
    samples = data(24)
    step = dataclasses.replace(QUICK, features=features)
    trainer = prepare(damaged(network()), network(), samples, step, 0, 1)
    with torch.no_grad():
        whole = float(trainer.loss(list(trainer.groups(samples, range(24), None))))
    judged = trainer.score(samples).loss
    assert judged > 0
    assert whole == pytest.approx((1 + features) * judged, rel=1e-4)


def test_tensors_inside_become_the_teachers() -> None:
    teacher = network()
    student = damaged(teacher)
    found = distill(student, teacher, data(), dataclasses.replace(QUICK, features=1.0))
    assert error(found.model, teacher) < 0.1 * error(student, teacher)


def test_tensors_inside_whose_first_axis_is_not_the_batch_are_left_out() -> None:
    teacher = model(f"""g (float[n,6] x) => (float[n,4] y) <float[6,12] w1 = {{{W1}}}, float[12,4] w2 = {{{W2}}},
        int64[1] first = {{0}}> {{
        u = Unsqueeze(x, first) a = MatMul(u, w1) s = Squeeze(a, first) c = Relu(s) y = MatMul(c, w2) }}""")
    student = damaged(teacher)
    assert set(prepare(student, teacher, data(), QUICK, 0, 1).inside) == {"s", "c"}
    found = distill(student, teacher, data(), QUICK)
    assert found.after.loss < 0.3 * found.before.loss


def test_labels_pull_the_answers_towards_them() -> None:
    teacher = network()
    labels = np.full(64, 2)
    step = dataclasses.replace(QUICK, labels=100.0)
    found = distill(damaged(teacher), teacher, data(labels=labels), dataclasses.replace(step, holdout=0.3))
    assert (answers(found.model).argmax(-1) == 2).mean() > (answers(teacher).argmax(-1) == 2).mean() + 0.3


def test_mixed_and_noisy_samples_are_answered_by_the_teacher_too() -> None:
    teacher = network()
    step = dataclasses.replace(QUICK, augment="noise=0.3,mixup=0.4")
    found = distill(damaged(teacher), teacher, data(), step)
    assert error(found.model, teacher) < 0.1 * error(damaged(teacher), teacher)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    teacher = network()
    runs = [distill(damaged(teacher), teacher, data(), QUICK, seed=seed) for seed in (3, 3, 4)]
    first, second, third = (io.to_bytes(found.model) for found in runs)
    assert first == second != third
