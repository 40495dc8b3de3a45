"""The losses against their formulas, and the kind that an output gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train' (torch)")

from optimizer.train.losses import Kind, Output, distance, kind_of, scores_of  # noqa: E402


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def loss(kind: Kind, student: Any, teacher: Any, temperature: float = 1.0) -> float:
    output = Output("y", "y", kind, scores_of(teacher), float(teacher.var()))
    found = distance(torch, output, torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    return float(found)


RANDOM = np.random.default_rng(0)
T, S = RANDOM.normal(0, 2, (5, 7)), RANDOM.normal(0, 2, (5, 7))


def test_kl_is_the_divergence_of_the_softened_distributions() -> None:
    p, q = softmax(T / 3), softmax(S / 3)
    assert loss("kl", S, T, 3) == pytest.approx(9 * float((p * np.log(p / q)).sum(-1).mean()))


def test_kl_of_probabilities_and_of_their_logarithms_is_that_of_the_logits() -> None:
    expected = loss("kl", S, T, 2)
    assert loss("kl", softmax(S), softmax(T), 2) == pytest.approx(expected, rel=1e-4)
    assert loss("kl", np.log(softmax(S)), np.log(softmax(T)), 2) == pytest.approx(expected)


def test_mse_is_relative_to_the_spread_of_the_teacher() -> None:
    assert loss("mse", np.full_like(T, T.mean()), T) == pytest.approx(1)
    assert loss("mse", 1000 * S, 1000 * T) == pytest.approx(loss("mse", S, T))


def test_cosine_does_not_see_lengths() -> None:
    assert loss("cosine", 3 * T, T) == pytest.approx(0, abs=1e-9)
    assert loss("cosine", -T, T) == pytest.approx(2)


@pytest.mark.parametrize("kind", ["kl", "mse", "cosine", "logits"])
def test_a_student_that_equals_its_teacher_has_no_loss(kind: Kind) -> None:
    assert loss(kind, T, T, 2) == pytest.approx(0, abs=1e-7)


def test_a_place_where_the_teacher_is_infinite_does_not_count() -> None:
    teacher = T.copy()
    teacher[0, 0] = -np.inf
    output = Output("y", "y", "mse", "logits", 1.0)
    assert float(distance(torch, output, torch.from_numpy(T), torch.from_numpy(teacher), 1)) == 0


def test_the_kind_of_an_output_is_read_off_its_values() -> None:
    assert kind_of(softmax(T)) == "kl"
    assert kind_of(np.log(softmax(RANDOM.normal(0, 1, (2, 4, 5))))) == "kl"
    assert kind_of(T / np.linalg.norm(T, axis=-1, keepdims=True)) == "cosine"
    assert kind_of(T) == "logits"
    assert kind_of(RANDOM.normal(0, 1, (1, 3, 8, 8))) == "mse"
    assert kind_of(RANDOM.random((4, 1))) == "mse"
