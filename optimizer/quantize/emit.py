"""Writing a plan into a graph as QuantizeLinear / DequantizeLinear pairs.

For every int8 group, in topological order:

1. Each activation it reads becomes ``DQ(Q(value))``; one Q and one DQ per value serve all int8 readers.
2. A constant weight becomes ``DQ(int8)`` per output channel, a bias of Conv or Gemm ``DQ(int32)`` with scale
   ``s_x * s_w`` (what the kernels add to their accumulator), another constant operand ``DQ(uint8)``.
3. If the kernel must write uint8, or only int8 groups read its output, an absorbed Relu or Clip goes (the saturation of
   the output's Q stands in for it) and every reader gets ``DQ(Q(output))``, the graph output too, under its old name.
   Otherwise the kernel writes float, and Relu or Clip stay.

A group in dynamic form instead reads its input through one DynamicQuantizeLinear, which finds the range of each run's
own values: ``MatMulInteger``, ``Cast``, ``Mul`` by both scales, and a float ``Add`` of the bias, which the runtime
fuses into one kernel that writes float.

Views share the parameters of their input. A MatMul of matrices with a bias becomes a Gemm (in float the runtime makes
one of it anyway); of more axes, the bias stays a float Add. HardSigmoid becomes the addition described in `ops.int8`.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.model.ports import Array
from optimizer.ops import int8
from optimizer.quantize import storage
from optimizer.quantize.editor import Editor
from optimizer.quantize.groups import Group
from optimizer.quantize.naming import distinct
from optimizer.quantize.plan import Plan, Weight
from optimizer.quantize.qparams import QParams, from_range

_INT32 = 2**31 - 1
_RANGED = ("quantized", "scale", "zero_point")
_RANGED_TYPES = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)


def emit(model: ir.Model, plan: Plan) -> ir.Model:
    """A clone of `model` with `plan` written into it. `model` must be the one the plan was made on (or a clone)."""
    copy = model.clone()
    writer = _Writer(copy.graph, plan)
    for group in plan.groups:
        writer.write(group)
    for group in plan.stored:
        writer.store(group)
    _drop_unused(copy.graph)
    distinct(copy.graph)
    return copy


class _Writer(Editor):
    """State of one emission: nodes and values by name, and the DQ output that stands for each quantized value."""

    def __init__(self, graph: ir.Graph, plan: Plan) -> None:
        super().__init__(graph)
        self.plan = plan
        self.readers: dict[str, int] = {}
        for name in (name for group in plan.groups if group.name not in plan.dynamic for name in group.inputs):
            self.readers[name] = self.readers.get(name, 0) + 1
        self.ranged: dict[str, ir.Node] = {}
        self.shared: dict[str, ir.Value] = {}
        self.quantized: dict[str, ir.Value] = {}
        self.dequantized: dict[str, ir.Value] = {}

    def write(self, group: Group) -> None:
        head = self.nodes[group.name]
        if group.name in self.plan.dynamic:
            self._dynamic(group, head, self.plan.weights[group.name])
            return
        inputs = [(i, value) for i, value in enumerate(head.inputs) if value is not None]
        for index, value in inputs:
            if value.name in group.inputs and not (group.rule.role == "view" and index):
                head.replace_input_with(index, self._dequantized(value.name))
        if group.weight is not None:
            self._weigh(group, head, self.plan.weights[group.name])
        elif group.rule.role in ("binary", "join"):
            self._constants(head)
        if group.op == "HardSigmoid":
            head = self._hard_sigmoid(group, head)
        if self.writes_uint8(group):
            self._quantize_outputs(group)

    def store(self, group: Group) -> None:
        """Keep the weight of a float group as int8, restored when the model is loaded (see `storage`)."""
        head, weight = self.nodes[group.name], self.plan.weights[group.name]
        if weight.values.size < storage.SMALLEST:
            return
        scales = weight.scales.reshape([-1 if axis == weight.axis else 1 for axis in range(weight.values.ndim)])
        if weight.name not in self.shared:
            self.shared[weight.name] = storage.restored(self.graph, self.fresh, weight.name, weight.values, scales)
        head.replace_input_with(1, self.shared[weight.name])
        if weight.bias is None:
            return
        if group.op == "MatMul":
            self._bias_add(group, weight.bias.astype(np.float32))
            return
        if len(head.inputs) < 3:
            head.resize_inputs(3)
        head.replace_input_with(2, self.initializer(f"{group.name}_bias", weight.bias.astype(np.float32)))

    def _dynamic(self, group: Group, head: ir.Node, weight: Weight) -> None:
        source, result = head.inputs[0], head.outputs[0]
        assert source is not None and source.name is not None
        values, name = weight.values if weight.axis == 1 else weight.values.T, group.name
        ranged = self._ranged(source)
        integers, scale, point = ranged.outputs
        stored = self.initializer(f"{weight.name}_weight_t", np.ascontiguousarray(values))
        zero = self.initializer(f"{weight.name}_weight_zero", np.zeros(weight.scales.shape, np.int8))
        product = ir.node("MatMulInteger", [integers, stored, point, zero], name=name)
        self.typed(product, f"{name}_int32", ir.DataType.INT32, result.shape)
        cast = ir.node("Cast", [product.outputs[0]], {"to": ir.DataType.FLOAT}, name=f"{name}_Cast")
        self.typed(cast, f"{name}_cast", ir.DataType.FLOAT, result.shape)
        factor = ir.node(
            "Mul", [scale, self.initializer(f"{weight.name}_weight_scale", weight.scales)], name=f"{name}_Factor"
        )
        self.typed(factor, f"{name}_factor", ir.DataType.FLOAT, None)
        scaled = ir.node("Mul", [cast.outputs[0], factor.outputs[0]], name=f"{name}_Scale")
        self.typed(scaled, f"{name}_scaled", ir.DataType.FLOAT, result.shape)
        new = [product, cast, factor, scaled]
        if group.op == "Gemm" and weight.bias is not None:
            bias = self.initializer(f"{name}_bias", weight.bias.astype(np.float32))
            new.append(self.typed(ir.node("Add", [scaled.outputs[0], bias], name=f"{name}_Bias"), f"{name}_biased",
                              ir.DataType.FLOAT, result.shape))  # fmt: skip
        self.graph.insert_before(head, new)
        self.take_over(result, new[-1].outputs[0])
        self.graph.remove(head, safe=True)
        if group.op == "MatMul" and weight.bias is not None:
            self._bias_add(group, weight.bias.astype(np.float32))

    def _ranged(self, source: ir.Value) -> ir.Node:
        """The DynamicQuantizeLinear of a value, made on first use."""
        name = source.name or ""
        if name not in self.ranged:
            node = ir.node("DynamicQuantizeLinear", [source], name=f"{name}_DynamicQuantize", num_outputs=3)
            for output, part, dtype in zip(node.outputs, _RANGED, _RANGED_TYPES, strict=True):
                output.name, output.type = self.fresh(f"{name}_dynamic_{part}"), ir.TensorType(dtype)
            self.behind(source, node)
            self.ranged[name] = node
        return self.ranged[name]

    def writes_uint8(self, group: Group) -> bool:
        """Whether every reader of the group's output gets its uint8 form."""
        if not group.rule.float_output:
            return True
        output = self.values[group.output]
        only_int8 = self.readers.get(group.output, 0) == len(list(output.uses())) and not output.is_graph_output()
        clipped = group.low > -np.inf or group.high < np.inf
        return only_int8 and (len(group.nodes) == 1 + clipped or self._is_gemm(group))

    def _dequantized(self, name: str) -> ir.Value:
        """``DQ(Q(value))`` of the value called `name`, made on first use, right behind the value's producer."""
        if name not in self.dequantized:
            value, params = self.values[name], self.plan.activations[name]
            self.quantized[name] = self.behind(value, self._q(value, name, params))
            self.dequantized[name] = self.behind(self.quantized[name], self._dq(self.quantized[name], name, params))
        return self.dequantized[name]

    def _quantize_outputs(self, group: Group) -> None:
        if group.low > -np.inf or group.high < np.inf:
            self._drop_tail(group)
        for name in group.outputs:
            value = self.values[name]
            uses, was_output = tuple(value.uses()), value.is_graph_output()
            result = self._dequantized(name)
            for use in uses:
                use.node.replace_input_with(use.idx, result)
            if was_output:
                self.swap_output(value, result)

    def _drop_tail(self, group: Group) -> None:
        """Take the absorbed Relu or Clip out; the value before it takes over its name and its place."""
        tail = self.nodes[group.nodes[-1]]
        before = tail.inputs[0]
        assert before is not None
        self.take_over(tail.outputs[0], before)
        self.graph.remove(tail, safe=True)

    def _weigh(self, group: Group, head: ir.Node, weight: Weight) -> None:
        scales, zero = weight.scales, np.zeros(weight.scales.shape, np.int8)
        dq = self._constant_dq(f"{weight.name}_weight", weight.values, scales, zero, weight.axis)
        head.replace_input_with(1, dq)
        if weight.bias is None:
            return
        if group.op == "MatMul" and not self._is_gemm(group):
            self._bias_add(group, weight.bias.reshape(1, -1).astype(np.float32))
            return
        if group.op == "MatMul":
            self._make_gemm(group, head)
        unit = (scales.astype(np.float64) * self.plan.activations[group.inputs[0]].scale).astype(np.float32)
        integers = np.clip(np.rint(weight.bias / unit.astype(np.float64)), -_INT32, _INT32).astype(np.int32)
        zero = np.zeros(unit.shape, np.int32)
        dq = self._constant_dq(f"{group.name}_bias", integers, np.broadcast_to(unit, integers.shape), zero, 0)
        if len(head.inputs) < 3:
            head.resize_inputs(3)
        head.replace_input_with(2, dq)

    def _is_gemm(self, group: Group) -> bool:
        """Whether a MatMul with a bias is one of matrices, of which the runtime would make a float Gemm."""
        head = self.nodes[group.name]
        return group.op == "MatMul" and group.bias is not None and int8.rank(head.inputs[0]) == 2

    def _make_gemm(self, group: Group, head: ir.Node) -> None:
        """Let the MatMul of a group be a Gemm that stands for the Add behind it too."""
        add = self.nodes[group.nodes[1]]
        head.op_type = "Gemm"
        self.take_over(add.outputs[0], head.outputs[0])
        self.graph.remove(add, safe=True)

    def _bias_add(self, group: Group, bias: Array) -> None:
        add = self.nodes[group.nodes[1]]
        index = next(i for i, value in enumerate(add.inputs) if value is not None and value.name == group.bias)
        add.replace_input_with(index, self.initializer(f"{group.name}_bias", bias))

    def _constants(self, head: ir.Node) -> None:
        for index, value in enumerate(head.inputs):
            if value is None or value.const_value is None or value.name in self.dequantized:
                continue
            array = value.const_value.numpy()
            params = from_range(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
            stored = self.initializer(f"{value.name}_uint8", params.quantize(array))
            head.replace_input_with(index, self.before(head, self._dq(stored, f"{head.name}_{index}", params)))

    def _hard_sigmoid(self, group: Group, head: ir.Node) -> ir.Node:
        name, params = group.inputs[0], self.plan.activations[group.inputs[0]]
        slope = head.attributes["alpha"].as_float() if "alpha" in head.attributes else 0.2
        offset = head.attributes["beta"].as_float() if "beta" in head.attributes else 0.5
        steep = QParams(params.scale * slope, params.zero_point)
        self._dequantized(name)
        left = self.before(head, self._dq(self.quantized[name], f"{group.name}_steep", steep))
        level = QParams(offset / 255, 0)
        stored = self.initializer(f"{group.name}_offset", np.array(255, np.uint8))
        right = self.before(head, self._dq(stored, f"{group.name}_offset", level))
        add = ir.node("Add", [left, right], name=group.name, num_outputs=1)
        old, new = head.outputs[0], add.outputs[0]
        new.shape, new.type = old.shape, old.type
        self.graph.insert_before(head, add)
        self.take_over(old, new)
        self.graph.remove(head, safe=True)
        self.nodes[group.name] = add
        return add

    def _q(self, value: ir.Value, name: str, params: QParams) -> ir.Node:
        node = ir.node("QuantizeLinear", [value, *self._params(name, params)], name=f"{name}_Quantize")
        return self.typed(node, f"{name}_quantized", ir.DataType.UINT8, value.shape)

    def _dq(self, value: ir.Value, name: str, params: QParams) -> ir.Node:
        node = ir.node("DequantizeLinear", [value, *self._params(name, params)], name=f"{name}_Dequantize")
        return self.typed(node, f"{name}_dequantized", ir.DataType.FLOAT, value.shape)

    def _params(self, name: str, params: QParams) -> tuple[ir.Value, ir.Value]:
        scale = self.initializer(f"{name}_scale", np.array(params.scale, np.float32))
        return scale, self.initializer(f"{name}_zero_point", np.array(params.zero_point, np.uint8))

    def _constant_dq(self, name: str, array: Array, scales: Array, zero: Array, axis: int) -> ir.Value:
        if f"{name}_dequantized" in self.shared:
            return self.shared[f"{name}_dequantized"]
        stored = self.initializer(f"{name}_quantized", array)
        scale = self.initializer(f"{name}_scale", np.ascontiguousarray(scales, np.float32))
        point = self.initializer(f"{name}_zero_point", zero)
        attributes = {"axis": axis} if scales.ndim else {}
        node = ir.node("DequantizeLinear", [stored, scale, point], attributes, name=f"{name}_Dequantize")
        self.typed(node, f"{name}_dequantized", ir.DataType.FLOAT, stored.shape)
        self.graph.insert_before(self.graph[0], node)
        return self.shared.setdefault(f"{name}_dequantized", node.outputs[0])


def _drop_unused(graph: ir.Graph) -> None:
    """Initializers that nobody reads any more (float weights, absorbed bounds)."""
    kept = {value.name for value in (*graph.inputs, *graph.outputs)}
    for name, value in list(graph.initializers.items()):
        if not value.uses() and name not in kept:
            del graph.initializers[name]
