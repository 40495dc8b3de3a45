"""Fold a per-channel affine map into the linear operator that computes its input.

    y = a * (W x + c) + b  =  (a * W) x + (a * c + b)          a, b: one number per output channel

The affine map is one of
    BatchNormalization   a = scale / sqrt(var + epsilon)       b = bias - mean * a
    Mul, Div by k        a = k or 1 / k                        b = 0
    Add, Sub of k        a = 1                                 b = k or -k      (k - x: a = -1, b = k)
where k is constant and varies along the channel axis only. The linear operator is one of

    operator        output channel axis of W          bias
    Conv            0                                 input 2, else made
    ConvTranspose   1, within each group              input 2, else made
    Gemm            1, or 0 under transB              input 2 with beta, else made; a matrix is refused
    MatMul          last (W the second factor)        a following Add stays: bias goes into a new or the old Add

Refused, each left as it is: the linear result has another reader or is an output; W, its bias or the map is not
constant; the normalization trains (training_mode, or its extra outputs are there) or is per pixel (spatial = 0);
the map varies along another axis, or along none that is known; the result would overflow the weights' type.
Models below opset 7, whose operators broadcast by attribute, are left as they are.
A weight that another node reads too is copied, not changed. Sums are done in float64 and rounded once.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from optimizer.model import shapes
from optimizer.model.passes.edit import Array, Editor, array, get, is_op, nodes, only_use, opset, remove

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SPREAD = "optimize.spread"
"""Key of a value's `meta`: mean and standard deviation per channel, [channels] each, that training left there. They
outlive the normalization that is folded away, since data-free calibration needs them."""
_BROADCASTS = 7
"""From this opset on Mul and its like broadcast as numpy does, and BatchNormalization infers by default."""
_SPATIAL_UNTIL = 9
_OUTPUTS_TRAIN_UNTIL = 14


@dataclasses.dataclass(frozen=True)
class Affine:
    """x -> a * x + b with one number per channel, [channels] each."""

    a: Array
    b: Array


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear operator, and the Add of its bias where that is a node of its own."""

    node: ir.Node
    adder: ir.Node | None = None

    @property
    def out(self) -> ir.Value:
        return (self.adder or self.node).outputs[0]


def fold_batch_norm(model: ir.Model) -> int:
    """Fold BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul (+ Add) before it."""
    return _fold(model, ("BatchNormalization",))


def fold_scale_and_shift(model: ir.Model) -> int:
    """Fold Mul, Div, Add and Sub by per-channel constants into the Conv, ConvTranspose, Gemm or MatMul before them."""
    return _fold(model, ("Mul", "Div", "Add", "Sub"))


def _fold(model: ir.Model, ops: tuple[str, ...]) -> int:
    if opset(model) < _BROADCASTS:
        return 0
    editor = Editor(model)
    return sum(_fold_node(editor, node) for node in nodes(model) if is_op(node, *ops))


def _fold_node(editor: Editor, node: ir.Node) -> bool:
    source = _source(node)
    linear = None if source is None else _linear(source, node)
    if linear is None or source is None:
        return False
    weight = array(get(linear.node, 1))
    if weight is None or weight.dtype.kind != "f" or weight.ndim < 2:
        return False
    channels = _channels(linear.node, weight)
    affine = _affine(node, source, channels, linear.node.op_type, opset(editor.model))
    if affine is None or (linear.node.op_type == "MatMul" and node.op_type == "Add"):
        return False
    return _apply(editor, node, linear, weight, affine)


def _source(node: ir.Node) -> ir.Value | None:
    """The input of the affine node that is not constant."""
    if is_op(node, "BatchNormalization") or array(get(node, 0)) is None:
        return get(node, 0)
    return get(node, 1)


def _linear(source: ir.Value, reader: ir.Node) -> Linear | None:
    made = source.producer()
    if made is None or made.graph is not reader.graph or not only_use(source):
        return None
    if is_op(made, *LINEAR):
        return Linear(made)
    product = _matmul_below(made) if is_op(made, "Add") else None
    return None if product is None else Linear(product, made)


def _matmul_below(adder: ir.Node) -> ir.Node | None:
    for product, bias in ((get(adder, 0), get(adder, 1)), (get(adder, 1), get(adder, 0))):
        made = None if product is None else product.producer()
        if made is None or not is_op(made, "MatMul") or not only_use(product) or made.graph is not adder.graph:
            continue
        weight, content = array(get(made, 1)), array(bias)
        if weight is not None and content is not None and content.shape == weight.shape[-1:]:
            return made
    return None


def _channels(node: ir.Node, weight: Array) -> int:
    if node.op_type == "ConvTranspose":
        return int(weight.shape[1] * node.attributes.get_int("group", 1))
    return int(weight.shape[_axis(node, weight)])


def _axis(node: ir.Node, weight: Array) -> int:
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 0 if node.op_type == "Conv" else weight.ndim - 1


def _affine(node: ir.Node, source: ir.Value, channels: int, producer: str, version: int) -> Affine | None:
    rank = _rank(source, producer)
    axis = 1 if producer != "MatMul" else None if rank is None else rank - 1
    if node.op_type == "BatchNormalization":
        return _batch_norm(node, channels, version) if axis == 1 else None
    first = array(get(node, 0)) is not None
    content = array(get(node, int(not first)))
    k = None if content is None else _per_channel(content, rank, axis, channels)
    if k is None or content is None or content.dtype.kind != "f":
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op_type == "Mul":
        return Affine(k, zero)
    if node.op_type == "Add":
        return Affine(one, k)
    if node.op_type == "Sub":
        return Affine(-one, k) if first else Affine(one, -k)
    return None if first or not k.all() else Affine(1 / k, zero)


def _rank(source: ir.Value, producer: str) -> int | None:
    """The rank of the linear operator's result."""
    if producer == "Gemm":
        return 2
    made = source.producer()
    weight = None if made is None or producer == "MatMul" else array(get(made, 1))
    return shapes.rank(source) if weight is None else weight.ndim


def _batch_norm(node: ir.Node, channels: int, version: int) -> Affine | None:
    trains = node.attributes.get_int("training_mode", 0) or (len(node.outputs) > 1 and version < _OUTPUTS_TRAIN_UNTIL)
    per_pixel = version < _SPATIAL_UNTIL and not node.attributes.get_int("spatial", 1)
    contents = [array(get(node, index)) for index in range(1, 5)]
    if trains or per_pixel or any(content is None or content.size != channels for content in contents):
        return None
    scale, bias, mean, var = (content.astype(np.float64) for content in contents if content is not None)
    epsilon = float(np.float32(node.attributes.get_float("epsilon", 1e-5)))
    if not (var + epsilon > 0).all():
        return None
    a = scale / np.sqrt(var + epsilon)
    return Affine(a, bias - mean * a)


def _per_channel(k: Array, rank: int | None, axis: int | None, channels: int) -> Array | None:
    """`k` as one number per channel, if it varies along `axis` of a value with `rank` axes at most."""
    if k.size == 1 and k.ndim <= (rank or 0):
        return np.full(channels, float(k.reshape(())))
    if rank is None or axis is None or k.ndim > rank:
        return None
    shape = (1,) * (rank - k.ndim) + k.shape
    expected = tuple(channels if index == axis else 1 for index in range(rank))
    return k.reshape(-1).astype(np.float64) if shape == expected else None


def _apply(editor: Editor, node: ir.Node, linear: Linear, weight: Array, affine: Affine) -> bool:
    scaled = _rounded(_scaled(linear.node, weight, affine.a), weight)
    bias = _bias(linear, weight, len(affine.a))
    if scaled is None or bias is None:
        return False
    shifted = _rounded(bias * affine.a + affine.b, weight)
    if shifted is None:
        return False
    if not np.array_equal(scaled, weight):
        editor.overwrite(linear.node, 1, scaled)
    spread = _spread(node, linear.out, affine)
    out = _set_bias(editor, node, linear, shifted)
    if spread is not None:
        out.meta[SPREAD] = spread
    return True


def _spread(node: ir.Node, source: ir.Value, affine: Affine) -> tuple[Array, Array] | None:
    """Mean and standard deviation per channel behind `node`: what a batch normalization was trained to give, or what
    was known of its source, moved."""
    if node.op_type == "BatchNormalization":
        gain, shift = array(get(node, 1)), array(get(node, 2))
        return None if gain is None or shift is None else (shift.astype(np.float64), np.abs(gain.astype(np.float64)))
    if SPREAD not in source.meta:
        return None
    mean, deviation = source.meta[SPREAD]
    return mean * affine.a + affine.b, deviation * np.abs(affine.a)


def _scaled(node: ir.Node, weight: Array, a: Array) -> Array:
    wide = weight.astype(np.float64)
    if node.op_type == "ConvTranspose":
        groups = node.attributes.get_int("group", 1)
        split = wide.reshape(groups, -1, *weight.shape[1:])
        per_group = a.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        return np.asarray((split * per_group).reshape(weight.shape))
    axis = _axis(node, weight)
    return np.asarray(wide * a.reshape([-1 if index == axis else 1 for index in range(weight.ndim)]))


def _rounded(wide: Array, like: Array) -> Array | None:
    with np.errstate(over="ignore"):
        narrow = wide.astype(like.dtype)
    return narrow if np.isfinite(narrow).all() else None


def _bias(linear: Linear, weight: Array, channels: int) -> Array | None:
    """The bias, [channels] in float64; zeros where there is none, None where it is not constant or no vector."""
    if linear.adder is not None:
        found = _adder_bias(linear.adder)
    elif linear.node.op_type == "MatMul" or get(linear.node, 2) is None:
        return np.zeros(channels)
    else:
        found = array(get(linear.node, 2))
    if found is None or found.size not in (1, channels) or found.shape[-1:] not in ((), (1,), (channels,)):
        return None
    beta = linear.node.attributes.get_float("beta", 1.0) if linear.node.op_type == "Gemm" else 1.0
    return np.broadcast_to(found.reshape(-1).astype(np.float64) * beta, (channels,))


def _adder_bias(adder: ir.Node) -> Array | None:
    first = array(get(adder, 0))
    return array(get(adder, 1)) if first is None else first


def _set_bias(editor: Editor, node: ir.Node, linear: Linear, bias: Array) -> ir.Value:
    """Write the bias where the operator has one, and let the readers of `node` read the operator's value, returned."""
    out = linear.out
    if linear.adder is not None:
        editor.overwrite(linear.adder, int(array(get(linear.adder, 0)) is None), bias)
    elif linear.node.op_type == "MatMul":
        out = _with_adder(editor, node, out, bias)
    elif get(linear.node, 2) is not None:
        editor.overwrite(linear.node, 2, bias)
    elif bias.any():
        linear.node.resize_inputs(3)
        linear.node.replace_input_with(2, editor.constant(bias, f"{linear.node.outputs[0].name}_bias"))
    if linear.node.op_type == "Gemm":
        linear.node.attributes.pop("beta", None)
    editor.replace(node.outputs[0], out)
    remove(node)
    return out


def _with_adder(editor: Editor, node: ir.Node, product: ir.Value, bias: Array) -> ir.Value:
    if not bias.any():
        return product
    constant = editor.constant(bias, f"{product.name}_bias")
    return editor.insert(node, "Add", [product, constant], like=node.outputs[0])
