"""Samples from the user's own functions."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.data import feeds
from optimizer.data.spec import open_samples
from optimizer.errors import DataError
from tests import builders

Write = Callable[[str], str]


@pytest.fixture
def single() -> ir.Model:
    return builders.model("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Puts the body of a function `samples` into a module of the current directory; gives the spec."""
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def write(body: str) -> str:
        names.append(f"user_module_{len(names)}_{tmp_path.name}")
        code = "import numpy as np\ndef samples():\n" + textwrap.indent(textwrap.dedent(body), "    ")
        Path(f"{names[-1]}.py").write_text(code)
        return f"{names[-1]}:samples"

    path = list(sys.path)
    yield write
    assert sys.path == path
    for name in names:
        sys.modules.pop(name, None)


def test_a_generator_of_dicts_is_run_once_and_read_often(write: Write, single: ir.Model) -> None:
    spec = write("for i in range(4): print('drawn'); yield {'x': np.full((1, 3), i, np.float32)}")
    samples = open_samples(spec, single)
    assert [[float(feed["x"][0, 0]) for feed in samples] for _ in range(2)] == [[0, 1, 2, 3]] * 2


def test_an_endless_generator_is_read_as_far_as_count(write: Write, single: ir.Model) -> None:
    spec = write("while True: yield {'x': np.zeros(3, np.float32)}")
    samples = open_samples(spec, single, count=5)
    assert len(samples) == 5 and samples[0]["x"].shape == (1, 3)


def test_an_endless_generator_without_count_ends_at_the_limit(single: ir.Model) -> None:
    kept = feeds.Feeds("m:f", limit=1000)
    with pytest.raises(DataError, match=r"m:f: more than 1000 bytes of samples; use --samples N"):
        for _ in range(100):
            kept.append({"x": np.zeros((1, 3), np.float32)})
    assert len(kept) <= 84


def test_labels_come_in_pairs_and_batches_are_taken_apart(write: Write, single: ir.Model) -> None:
    spec = write(
        """
        yield {'x': np.zeros((1, 3), np.float32)}, 7
        yield np.arange(6, dtype=np.float32).reshape(2, 3), [8, 9]
        """
    )
    samples = open_samples(spec, single)
    assert [feed["x"].tolist() for feed in samples] == [[[0, 0, 0]], [[0, 1, 2]], [[3, 4, 5]]]
    assert samples.labels is not None and samples.labels.tolist() == [7, 8, 9]


def test_a_list_is_as_good_as_a_generator_and_a_file_as_a_module(write: Write, single: ir.Model) -> None:
    name = write("return [{'x': np.zeros((1, 3), np.float32)}]").split(":")[0]
    assert len(open_samples(f"{name}.py:samples", single)) == len(open_samples(f"{name}:samples", single)) == 1


def test_a_function_may_import_its_neighbour_late(write: Write, single: ir.Model) -> None:
    neighbour = write("return np.zeros((1, 3), np.float32)").split(":")[0]
    assert len(open_samples(write(f"import {neighbour} as n\nyield {{'x': n.samples()}}"), single)) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise KeyError('disk')", "KeyError: 'disk'"),
        ("yield {'x': np.zeros((1, 3), np.float32)}\n1 / 0", "ZeroDivisionError: division by zero"),
        ("return 5", "must yield dicts of arrays by input name, but returned int"),
        ("return []", "yields no samples"),
        (
            "yield {'x': np.zeros((1, 4), np.float32)}",
            r"sample 0: input 'x' takes shape \(N, 3\), the data has \(1, 4\)",
        ),
        ("yield {'y': np.zeros((1, 3))}", "sample 0: the array 'y' must be named 'x'"),
        ("yield {'x': np.full((1, 3), np.nan)}", "sample 0: input 'x' has NaN"),
        ("yield {'x': [[1.0], [2.0, 3.0]]}", "ValueError"),
        ("z = np.zeros((1, 3), np.float32)\nyield z, 1\nyield z", "1 of 2 samples have no label"),
        ("z = np.zeros((1, 3), np.float32)\nyield z, 1\nyield z, [[1, 2]]", "labels have different shapes"),
    ],
)
def test_a_bad_function_is_blamed_in_one_line(write: Write, single: ir.Model, body: str, message: str) -> None:
    spec = write(body)
    with pytest.raises(DataError, match=message) as caught:
        open_samples(spec, single)
    assert str(caught.value).startswith(spec) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module_here:f", "ModuleNotFoundError"),
        ("json:no_such_function", "json has no 'no_such_function'"),
        ("json:__name__", "'__name__' is no function"),
        ("json.py:loads", "FileNotFoundError"),
    ],
)
def test_a_spec_that_names_nothing_is_refused(single: ir.Model, spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_samples(spec, single)


def test_two_inputs_need_dicts(write: Write) -> None:
    model = builders.model("g (float[N,3] x, float[N,3] z) => (float[N,3] y) { y = Add(x, z) }")
    with pytest.raises(DataError, match="must yield dicts of arrays by input name, but yielded ndarray"):
        open_samples(write("yield np.zeros((1, 3), np.float32)"), model)


def test_doubles_from_a_function_are_noted(write: Write, single: ir.Model) -> None:
    assert "float64 was rounded" in open_samples(write("yield {'x': np.zeros((1, 3))}"), single).notes[0]
