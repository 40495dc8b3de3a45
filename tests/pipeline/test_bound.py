"""Parts that go back to float do so with small weights; weights in blocks are tried where one range does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from optimizer.model import io
from optimizer.pipeline import common
from optimizer.pipeline import quantize as pipeline
from optimizer.pipeline.common import Silent
from optimizer.pipeline.judge import Judge, Judged
from optimizer.quantize.candidate import Candidate
from optimizer.recipe import Quantize, Run
from tests.cli.runner import write_data, write_model
from tests.quantize.nets import build, normal

PRODUCTS = """g (float[1,64] x) => (float[1,64] y)
{ a = MatMul(x, u)  b = Tanh(a)  c = MatMul(b, v)  d = Tanh(c)  y = MatMul(d, w) }"""


def work(path: Path, step: Quantize) -> pipeline.Work:
    run = Run(data=str(path.parent / "data.npz"))
    return pipeline.Work(common.subject(path, run), step, run, Silent())


@pytest.fixture
def images(tmp_path: Path) -> pipeline.Work:
    write_data(tmp_path / "data.npz", 8)
    return work(write_model(tmp_path / "net.onnx"), Quantize(measure=False, recover="none", everywhere=True))


@pytest.fixture
def products(tmp_path: Path) -> pipeline.Work:
    arrays = {name: normal(64, 64, seed=seed, scale=0.3) for seed, name in enumerate("uvw")}
    io.save(build(PRODUCTS, arrays), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=normal(8, 64))
    return work(tmp_path / "net.onnx", Quantize(recover="none"))


def holding(monkeypatch: pytest.MonkeyPatch, fine: Callable[[Candidate], bool]) -> None:
    monkeypatch.setattr(Judge, "holds", lambda self, judged: fine(judged.candidate))


def in_int8(candidate: Candidate) -> set[str]:
    return {node.name for node in candidate.nodes if node.action == "int8"}


def kept(candidate: Candidate, shape: tuple[int, ...]) -> set[ir.DataType | None]:
    return {value.dtype for value in candidate.model.graph.initializers.values() if tuple(value.shape or ()) == shape}


def bounded(judged: pipeline.Work) -> Judged:
    found = judged.bound.of(judged.judge.of(judged.static.whole))
    assert found is not None
    return found


def test_what_goes_back_to_float_keeps_int8_weights_where_the_answers_bear_it(
    images: pipeline.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = str(images.about.clean.graph[0].name)
    holding(monkeypatch, lambda candidate: first not in in_int8(candidate))
    found = bounded(images).candidate
    assert not found.plain
    assert kept(found, (64, 3, 3, 3)) == {ir.DataType.INT8}
    (node,) = [node for node in found.nodes if node.name == first]
    assert (node.action, node.reason) == ("weights", "float, to keep within a drop of 1%")


def test_where_they_do_not_the_weight_is_kept_as_float16(
    images: pipeline.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = str(images.about.clean.graph[0].name)
    holding(monkeypatch, lambda candidate: first not in in_int8(candidate) and first in candidate.plain)
    found = bounded(images).candidate
    assert kept(found, (64, 3, 3, 3)) == {ir.DataType.FLOAT16}
    assert kept(found, (64, 64, 3, 3)) == {ir.DataType.INT8}


def test_weights_in_blocks_are_a_finalist_where_a_faster_form_misses(
    products: pipeline.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(monkeypatch, lambda candidate: candidate.only_stored)
    found = products.finalists([products.static.dynamic(), products.static.stored()])
    names = [judged.candidate.name for judged in found]
    assert names == ["weights only", "8-bit weights in blocks of 32"]


def test_weights_in_blocks_are_not_tried_where_the_fastest_form_holds(
    products: pipeline.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(monkeypatch, lambda candidate: True)
    assert not any(judged.candidate.blocks for judged in products.finalists([products.static.dynamic()]))


def test_weights_in_blocks_can_be_asked_for_again_by_what_was_decided(products: pipeline.Work) -> None:
    candidate = products.static.stored((8, 32))
    step = candidate.decided(Quantize())
    assert (step.mode, step.blocks, step.measure) == ("weights", (8, 32), False)
    again = pipeline.Work(products.about, step, products.run, Silent()).candidates()
    assert [one.nodes for one in again] == [candidate.nodes]


def test_repairs_come_before_parts_are_given_up_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path / "data.npz", 8)
    own = work(write_model(tmp_path / "net.onnx"), Quantize(measure=False, everywhere=True))
    monkeypatch.setattr(Judge, "holds", lambda self, judged: judged.repaired)
    (found,) = own.finalists([own.static.whole])
    assert in_int8(found.candidate) == in_int8(own.static.whole)
    assert [note.split(" ")[0] for note in found.notes] == ["second-order", "correction"]
    assert own.repaired(found) is found
