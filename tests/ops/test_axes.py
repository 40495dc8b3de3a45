"""Every axis rule against the op itself.

For a label that the rule leaves free, the positions it stands for are dropped: weights are zeroed there, activations
are *perturbed* there. Then (1) no kept output position may change, (2) the op on tensors without these positions,
patched by the row, computes exactly the kept outputs, and (3) what the rule calls zero is zero.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from optimizer.model import io, shapes
from optimizer.ops.axes import RULES, Axis, Labels, Op
from optimizer.prune import groups, remove
from optimizer.prune.groups import Axes
from optimizer.runtime.session import open_session
from tests.ops.examples import EXAMPLES, MS, Example

NO_REFERENCE = {"SimplifiedLayerNormalization", "GlobalLpPool", "ConvTranspose", "MaxRoiPool"}
LABELS = 8
"""Labels tried per example."""


@dataclasses.dataclass
class Case:
    """An example as a model, with layouts in which everything starts free."""

    model: ir.Model
    axes: Axes
    values: dict[str, np.ndarray]


def build(example: Example) -> Case:
    domain = f', "{MS}" : 1'
    header = f'<ir_version: 10, opset_import: ["" : {example.opset}{domain}]>'
    proto = onnx.parser.parse_model(f"{header} g ({example.inputs}) => () {{ {example.node} }}")
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    rng = np.random.default_rng(0)
    values = {}
    for port in list(proto.graph.input):
        values[port.name] = np.asarray(example.constants.get(port.name, _draw(rng, port)))
        if port.name[0] in "wc":
            proto.graph.initializer.append(onnx.numpy_helper.from_array(values[port.name], port.name))
            proto.graph.input.remove(port)
    known = {info.name: info for info in proto.graph.value_info}
    for name in proto.graph.node[-1].output:
        proto.graph.output.append(known.get(name) or onnx.helper.make_empty_tensor_value_info(name))
    model = ir.from_proto(proto)
    shapes.infer(model)
    _shapes_by_running(model, values)
    return Case(model, _analyse(model), values)


def _draw(rng: np.random.Generator, port: onnx.ValueInfoProto) -> np.ndarray:
    shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
    if np.dtype(dtype).kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if np.dtype(dtype).kind in "iu":
        return rng.integers(1, 3, shape).astype(dtype)
    return rng.uniform(0.2, 0.9, shape).astype(dtype)


def _shapes_by_running(model: ir.Model, values: dict[str, np.ndarray]) -> None:
    """What shape inference does not know (other domains)."""
    for value, array in zip(model.graph.outputs, run(model, values), strict=True):
        if value.shape is None:
            value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)


def _analyse(model: ir.Model) -> Axes:
    labels, fills = Labels(), groups.maskable(model.graph)
    layouts = {}
    for value in model.graph.initializers.values():
        layouts[value] = groups._fresh(labels, value, value in fills)
    for value in model.graph.inputs:
        layouts[value] = groups._fresh(labels, value, False)
    ops = [groups.visit(Op(n, labels, layouts, model.opset_imports[""], False), layouts) for n in model.graph]
    groups._freeze_essential(labels, layouts)
    return Axes(model.graph, labels, layouts, labels.sets(), (), (), fills, {op.node: op.edits for op in ops})


def run(model: ir.Model, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    feed = {value.name: values[value.name] for value in model.graph.inputs}
    if any(node.domain or node.op_type in NO_REFERENCE for node in model.graph):
        return open_session(model).run(feed)
    with np.errstate(all="ignore"):
        return [np.asarray(y) for y in ReferenceEvaluator(io.to_proto(model)).run(None, feed)]


def perturbed(case: Case, gone: np.ndarray) -> dict[str, np.ndarray]:
    """Other numbers at all dropped positions of the activations."""
    values = dict(case.values)
    rng = np.random.default_rng(1)
    for value in case.model.graph.inputs:
        array = values[value.name].copy()
        for index, axis in enumerate(case.axes.layouts[value]):
            where = np.moveaxis(array, index, 0)
            shape = where[gone[axis.labels]].shape
            where[gone[axis.labels]] = (
                rng.integers(0, 3, shape) if array.dtype.kind in "iub" else rng.uniform(0.1, 0.8, shape)
            )
        values[value.name] = array
    return values


def kept(array: np.ndarray, layout: tuple[Axis, ...], gone: np.ndarray) -> np.ndarray:
    sizes = zip(layout, array.shape, strict=True)
    return array[np.ix_(*(np.resize(~gone[axis.labels], size) for axis, size in sizes))] if layout else array


def copy_axes(case: Case) -> Axes:
    model = case.model.clone()
    twins = dict(zip(_values(case.model.graph), _values(model.graph), strict=True))
    layouts = {twins[value]: layout for value, layout in case.axes.layouts.items()}
    fills = {twins[v]: None if p is None else twins[p] for v, p in case.axes.fills.items()}
    edits = {own: case.axes.edits[node] for own, node in zip(model.graph, case.model.graph, strict=True)}
    return dataclasses.replace(case.axes, graph=model.graph, layouts=layouts, fills=fills, edits=edits), model


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.initializers.values(), *graph.inputs, *(v for node in graph for v in node.outputs)]


def choices(case: Case) -> list[np.ndarray]:
    """Single labels that can go without emptying an axis, then all of these at once as far as axes allow."""
    sets = case.axes.sets
    roots = {root for layout in case.axes.layouts.values() for axis in layout or () for root in
             sets.members(axis.labels)[1].tolist()}  # fmt: skip
    order = np.random.default_rng(2).permutation(sorted(roots)).tolist()
    found, several = [], case.axes.none()
    for root in order:
        for dropped in ({root}, {root, *np.flatnonzero(several).tolist()}):
            marks = case.axes.none()
            marks[list(dropped)] = True
            gone = case.axes.gone(marks)
            if any(gone[axis.labels].all() for layout in case.axes.layouts.values() for axis in layout or ()):
                continue
            if len(dropped) > 1:
                several = marks
            else:
                found.append(marks)
    return [*found[:LABELS], several]


IDS = [f"{index}-{example.op}" for index, example in enumerate(EXAMPLES)]


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_what_is_dropped_touches_nothing_that_is_kept(example: Example) -> None:
    case = build(example)
    for dropped in choices(case):
        gone = case.axes.gone(dropped)
        axes, masked = copy_axes(case)
        remove.mask(axes, dropped, masked.graph)
        base, other = run(masked, case.values), run(masked, perturbed(case, gone))
        axes, removed = copy_axes(case)
        remove.remove(axes, dropped)
        small = {value.name: kept(case.values[value.name], case.axes.layouts[value], gone)
                 for value in case.model.graph.inputs}  # fmt: skip
        after = run(removed, small)
        for value, a, b, c in zip(case.model.graph.outputs, base, other, after, strict=True):
            layout = case.axes.layouts[value]
            assert layout is not None
            expected = kept(a, layout, gone)
            np.testing.assert_allclose(kept(b, layout, gone), expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-6)
            for index, axis in enumerate(layout):
                if axis.zero and not axis.open and a.dtype.kind == "f":
                    assert not np.moveaxis(a, index, 0)[gone[axis.labels]].any()


@pytest.mark.parametrize("key", sorted(RULES), ids=lambda key: ":".join(key))
def test_every_rule_has_an_example_in_which_something_goes(key: tuple[str, str]) -> None:
    own = [example for example in EXAMPLES if (example.domain, example.op) == key]
    assert own
    assert any(choices(build(example))[0].any() for example in own if example.free)
