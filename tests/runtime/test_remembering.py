"""A session that remembers runs each input once, as far as its memory goes."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.runtime import session
from optimizer.runtime.session import Remembering, open_session
from tests.quantize.nets import build, normal

NET = "g (float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Neg(x) z = Abs(x) }"


class Counting:
    """A runtime's session that counts its runs."""

    def __init__(self) -> None:
        self.raw, self.runs = open_session(build(NET)).raw, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.raw, name)

    def run(self, *given: object) -> object:
        self.runs += 1
        return self.raw.run(*given)


def test_an_input_that_was_seen_is_not_run_again() -> None:
    raw = Counting()
    found = Remembering(raw)  # type: ignore[arg-type]
    feeds = [{"x": normal(2, 4, seed=seed)} for seed in (0, 1, 0, 1)]
    answers = [found.run(feed) for feed in feeds]
    assert raw.runs == 2
    for feed, (y, z) in zip(feeds, answers, strict=True):
        np.testing.assert_array_equal(y, -feed["x"])
        np.testing.assert_array_equal(z, np.abs(feed["x"]))


def test_other_shapes_types_and_outputs_are_other_questions() -> None:
    raw = Counting()
    found = Remembering(raw)  # type: ignore[arg-type]
    zeros = np.zeros((2, 4), np.float32)
    assert [len(found.run({"x": zeros}, names)) for names in (None, ["y"], ["z"])] == [2, 1, 1]
    assert found.run({"x": zeros.reshape(2, 4)[:1]})[0].shape == (1, 4)
    assert raw.runs == 4


def test_what_does_not_fit_into_memory_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_MOST_KEPT", 100)
    raw = Counting()
    found = Remembering(raw)  # type: ignore[arg-type]
    for seed in (0, 1, 0, 1):
        np.testing.assert_array_equal(found.run({"x": normal(2, 4, seed=seed)})[0], -normal(2, 4, seed=seed))
    assert raw.runs == 3
