"""ONNX's own operator tests, cleaned: about 1,900 small models of every operator and many opsets."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from optimizer.errors import DataError, ModelError
from optimizer.model import cleanup, cost, io
from optimizer.model.passes.dead import RANDOM
from optimizer.runtime.session import Options, Session, open_session

PLAIN = Options(level="none")


def cases() -> Iterator[tuple[str, bytes, list[Any]]]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if case.model is not None and case.data_sets:
                yield case.name, case.model.SerializeToString(), list(case.data_sets[0][0])


def answers(session: Session, inputs: list[Any]) -> list[Any] | None:
    """None where the runtime has no kernel, or the inputs are no tensors."""
    feed = {name: value for name, value in zip(session.inputs, inputs, strict=False) if isinstance(value, np.ndarray)}
    try:
        return session.run(feed) if len(feed) == len(session.inputs) else None
    except DataError:
        return None


def agree(want: list[Any], got: list[Any]) -> bool:
    for a, b in zip(want, got, strict=True):
        if not isinstance(a, np.ndarray):
            continue
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        tolerance = 2e-3 if a.dtype == np.float16 else 1e-4
        if a.dtype.kind == "f" and not np.allclose(a.astype(float), b.astype(float), tolerance, 1e-5, equal_nan=True):
            return False
        if a.dtype.kind != "f" and not (a == b).all():
            return False
    return True


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_operator_answers_as_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    compared, differ = 0, []
    for name, data, inputs in cases():
        after = io.load_bytes(data)
        cleanup.clean(after)
        cost.count(after)
        cleaned = io.to_bytes(after)
        try:
            want = answers(open_session(data, PLAIN), inputs)
        except ModelError:
            continue
        if want is None or any(node.op_type in RANDOM for graph in after.graphs() for node in graph):
            continue
        got = answers(open_session(cleaned, PLAIN), inputs)
        compared += 1
        differ += [] if got is not None and agree(want, got) else [name]
    assert differ == []
    assert compared > 1000
