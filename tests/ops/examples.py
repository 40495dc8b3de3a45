"""One example node or more for every axis rule.

An example is ONNX text: inputs named x... are activations (nothing is known of them), w... are weights (masking zeroes
them), c... are constants whose values stand beside them. Sizes are small and different where they may be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MS = "com.microsoft"


@dataclasses.dataclass(frozen=True)
class Example:
    """A node with its inputs."""

    inputs: str
    node: str
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    opset: int = 17
    domain: str = ""
    free: bool = True
    """Whether anything is prunable at all."""
    until: int = 99
    """The last opset in which the node may be written so."""

    @property
    def op(self) -> str:
        """The operator's type."""
        return self.node.split("=", 1)[1].strip().split("<")[0].split("(")[0].strip().split(".")[-1]


def ints(*numbers: int) -> Sequence[int]:
    return np.array(numbers, np.int64)


def unary(*ops: str, opset: int = 17) -> list[Example]:
    return [Example("float[2,4,3] x", f"y = {op} (x)", opset=opset) for op in ops]


def binary(*ops: str, of: str = "float", opset: int = 17) -> list[Example]:
    return [
        example
        for op in ops
        for example in (
            Example(f"{of}[2,4,3] x, {of}[4,1] x1", f"y = {op} (x, x1)", opset=opset),
            Example(f"{of}[2,4,3] x, {of}[2,4,3] x1", f"y = {op} (x, x1)", opset=opset),
        )
    ]


POINTWISE = [
    *unary("Identity", "Dropout", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "HardSwish", "Tanh", "Erf", "Abs",
           "Neg", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Sin", "Sinh", "Tan", "Asin", "Asinh", "Atan", "Atanh",
           "Softsign", "ThresholdedRelu", "IsInf", "IsNaN", "Sigmoid", "HardSigmoid", "Softplus", "Exp", "Cos", "Cosh",
           "Acos", "Reciprocal", "Log", "Acosh", "Shrink"),
    *unary("Mish", opset=18),
    *unary("Gelu", opset=20),
    *unary("Swish", opset=24),
    Example("float[2,4,3] x", "y = Cast <to=11> (x)"),
    Example("float[2,4,3] x, double[1] x1", "y = CastLike (x, x1)"),
    Example("float[2,4,3] x, float cl, float ch", "y = Clip (x, cl, ch)", {"cl": np.float32(0.1), "ch": np.float32(1)}),
    Example("float[2,4,3] x, float cl, float ch", "y = Clip (x, cl, ch)", {"cl": np.float32(-1), "ch": np.float32(1)}),
    Example("bool[2,4] x", "y = Not (x)"),
    Example("int32[2,4] x", "y = BitwiseNot (x)", opset=18),
    *binary("Add", "Sub", "Sum", "Max", "Min", "Mean", "Mul", "Div", "Equal", "Greater", "Less", "GreaterOrEqual",
            "LessOrEqual", "Pow"),
    *binary("Or", "Xor", "And", of="bool"),
    *binary("BitwiseOr", "BitwiseXor", "BitwiseAnd", of="int32", opset=18),
    Example("float[2,4] x, float[4] w", "y = Add (x, w)"),
    Example("float[2,4] x, float[4] w", "y = Div (x, w)"),
    Example("float[2,4] w, float c", "y = Pow (w, c)", {"c": np.float32(2)}),
    Example("uint8[2,4] x, uint8[4] x1", "y = BitShift <direction=\"LEFT\"> (x, x1)"),
    Example("int32[2,4] x, int32[4] x1", "y = Mod (x, x1)"),
    Example("float[2,4,3] x, float[4,1] w", "y = PRelu (x, w)"),
    Example("bool[4,3] x, float[2,4,3] x1, float[3] w", "y = Where (x, x1, w)"),
    *(Example("float[2,4] x, float[4] w", f"y = {MS}.{op} (x, w)", domain=MS) for op in ("BiasGelu", "FastGelu")),
    *(Example("float[2,4] x", f"y = {MS}.{op} (x)", domain=MS) for op in ("Gelu", "QuickGelu")),
]  # fmt: skip

PRODUCTS = [
    Example("float[2,3,4] x, float[4,5] w", "y = MatMul (x, w)"),
    Example("float[2,1,3,4] x, float[5,4,6] x1", "y = MatMul (x, x1)"),
    Example("float[4] x, float[4,5] w", "y = MatMul (x, w)"),
    Example("float[4,3] x, float[5,4] w", f"y = {MS}.FusedMatMul <transA=1, transB=1> (x, w)", domain=MS),
    Example("float[3,4] x, float[4,5] w, float[5] w1", f"y = {MS}.FusedGemm <activation=\"Tanh\"> (x, w, w1)",
            domain=MS),
    Example("float[1,4,3,3] x, float[6,4,1,1] w, float[6] w1, float[1,6,3,3] x1",
            f"y = {MS}.FusedConv <activation=\"Relu\"> (x, w, w1, x1)", domain=MS),
    Example("uint8[3,4] x, int8[4,5] w", "y = MatMulInteger (x, w)"),
    Example("float[3,4] x, float[5,4] w, float[5] w1", "y = Gemm <transB=1, alpha=0.5> (x, w, w1)"),
    Example("float[4,3] x, float[4,5] w, float[3,1] x1", "y = Gemm <transA=1> (x, w, x1)"),
    Example("float[2,3,4] x, float[2,5,4] x1", "y = Einsum <equation=\"bij,bkj->bik\"> (x, x1)"),
    Example("float[2,3,4] x, float[4,5,6] w", "y = Einsum <equation=\"...d,dhk->...hk\"> (x, w)"),
    Example("float[3,4] w, float[4,5] w1", "y = Einsum <equation=\"ij,jk\"> (w, w1)"),
    Example("float[2,6,5,5] x, float[4,6,3,3] w, float[4] w1", "y = Conv (x, w, w1)"),
    Example("float[2,6,5,5] x, float[8,3,3,3] w", "y = Conv <group=2> (x, w)"),
    Example("float[1,4,5,5] x, float[8,1,3,3] w, float[8] w1", "y = Conv <group=4> (x, w, w1)"),
    Example("float[1,6,7] x, float[4,6,3] w", "y = Conv <strides=[2]> (x, w)"),
    Example("float[2,6,3,3] x, float[6,4,2,2] w, float[4] w1", "y = ConvTranspose (x, w, w1)"),
    Example("float[1,6,3,3] x, float[6,2,2,2] w, float[4] w1", "y = ConvTranspose <group=2> (x, w, w1)"),
]  # fmt: skip

MOVES = [
    Example("float[2,3,4] x", "y = Transpose <perm=[2,0,1]> (x)"),
    Example("float[2,1,4] x, int64[1] c", "y = Squeeze (x, c)", {"c": ints(1)}),
    Example("float[2,4] x, int64[2] c", "y = Unsqueeze (x, c)", {"c": ints(0, -1)}),
    Example("float[2,3] x, float[2,4] x1, float[2,5] w", "y = Concat <axis=1> (x, x1, w)"),
    Example("float[2,7] x, int64[2] c", "y, y1 = Split <axis=1> (x, c)", {"c": ints(3, 4)}),
    Example("float[2,8] x", "y, y1 = Split <axis=1> (x)", until=17),
    Example("float[2,7] x", "y, y1, y2 = Split <axis=1, num_outputs=3> (x)", opset=18),
    Example("float[3,8] x, int64[1] cs, int64[1] ce, int64[1] ca", "y = Slice (x, cs, ce, ca)",
            {"cs": ints(1), "ce": ints(-2), "ca": ints(1)}),
    Example("float[3,8] x, int64[2] cs, int64[2] ce, int64[2] ca, int64[2] ct", "y = Slice (x, cs, ce, ca, ct)",
            {"cs": ints(7, 0), "ce": ints(-100, 3), "ca": ints(1, 0), "ct": ints(-2, 2)}),
    Example("float[3,8] x, int64[3] c", "y = Gather <axis=1> (x, c)", {"c": ints(5, -8, 5)}),
    Example("float[3,8] x, int64 c", "y = Gather <axis=1> (x, c)", {"c": np.int64(2)}),
    Example("float[9,4] w, int64[2,3] x", "y = Gather (w, x)"),
    Example("float[4,3,5] x, int64[2,2] c", "y = GatherND (x, c)", {"c": np.array([[0, 1], [3, 2]])}),
    Example("float[2,3,5] x, int64[2,1] c", "y = GatherND <batch_dims=1> (x, c)", {"c": np.array([[1], [0]])}),
    Example("float[4,3,5] x, int64[2,1] c, float[2,3,5] x1", "y = ScatterND (x, c, x1)", {"c": np.array([[0], [2]])}),
    Example("float[4,3] x, int64[2,3] c", "y = GatherElements (x, c)", {"c": np.array([[0, 3, 1], [2, 2, 0]])}),
    Example("float[4,3] x, int64[4,2] c", "y = GatherElements <axis=1> (x, c)", {"c": np.ones((4, 2), np.int64)}),
    Example("float[4,3] x, int64[2,3] c, float[2,3] x1", "y = ScatterElements (x, c, x1)",
            {"c": np.array([[0, 3, 1], [2, 2, 0]])}),
    Example("int64[2,3] x, int64 c, float[2] c1", "y = OneHot <axis=1> (x, c, c1)",
            {"c": np.int64(4), "c1": np.array([0, 1], np.float32)}),
    Example("float[1,4,6,6] x, float[2,4] c, int64[2] c1", "y = RoiAlign <output_height=2, output_width=2> (x, c, c1)",
            {"c": np.array([[0, 0, 3, 3], [1, 1, 5, 4]], np.float32), "c1": ints(0, 0)}),
    Example("float[1,4,6,6] x, float[2,5] c", "y = MaxRoiPool <pooled_shape=[2,2]> (x, c)",
            {"c": np.array([[0, 0, 0, 3, 3], [0, 1, 1, 5, 4]], np.float32)}),
    Example("float[1,4,3,3] x, float[1,2,2,2] x1", "y = GridSample (x, x1)"),
    *(Example("float[1,12,2,3] x", f"y = DepthToSpace <blocksize=2, mode=\"{mode}\"> (x)") for mode in ("DCR", "CRD")),
    Example("float[1,3,4,6] x", "y = SpaceToDepth <blocksize=2> (x)"),
]  # fmt: skip

SHAPING = [
    Example("float[2,12,3] x, int64[4] c", "y = Reshape (x, c)", {"c": ints(0, 3, 4, -1)}),
    Example("float[2,3,4,5] x, int64[3] c", "y = Reshape (x, c)", {"c": ints(2, 12, 5)}),
    Example("float[2,4,6] x, int64[3] c", "y = Reshape (x, c)", {"c": ints(2, 6, 4)}),
    Example("float[6,4] x, int64[3] c", "y = Reshape (x, c)", {"c": ints(2, 3, 4)}),
    Example("float[2,3,4] x", "y = Flatten <axis=1> (x)"),
    Example("float[2,1,4] x, int64[3] c", "y = Expand (x, c)", {"c": ints(2, 3, 1)}),
    Example("float[1,4] x, int64[3] c", "y = Expand (x, c)", {"c": ints(3, 2, 4)}),
    Example("float[2,3] x, int64[2] c", "y = Tile (x, c)", {"c": ints(1, 4)}),
    Example("int64[2] c", "y = ConstantOfShape (c)", {"c": ints(3, 4)}),
    Example("float[2,3] x", "s = Shape (x) y = Identity (s)"),
    Example("float[2,3,4] x", "s = Shape <start=1, end=-1> (x) y = Identity (s)"),
    Example("float[1,3,4,4] x, float[0] c, float[4] c1", "y = Resize <mode=\"nearest\"> (x, c, c1)",
            {"c": np.zeros(0, np.float32), "c1": np.array([1, 1, 2, 2], np.float32)}),
    Example("float[1,3,4,4] x, int64[4] c", "y = Resize <mode=\"linear\"> (x, , , c)", {"c": ints(1, 3, 6, 6)}),
    Example("float[1,3,4,4] x, int64[8] c", "y = Pad (x, c)", {"c": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    Example("float[1,3,4] x, int64[6] c, float c1", "y = Pad (x, c, c1)",
            {"c": ints(0, 1, 0, 0, 2, 0), "c1": np.float32(2)}),
    Example("float[1,3,4] x, int64[6] c", "y = Pad <mode=\"reflect\"> (x, c)", {"c": ints(0, 0, 1, 0, 0, 1)}),
]  # fmt: skip

REDUCTIONS = [
    *(Example("float[2,4,3,3] x, int64[2] c", f"y = {op} (x, c)", {"c": ints(2, 3)}, opset=18)
      for op in ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceMean", "ReduceMax", "ReduceMin",
                 "ReduceProd", "ReduceLogSumExp")),
    Example("float[4,3] w, int64[1] c", "y = ReduceSum <keepdims=0> (w, c)", {"c": ints(0)}),
    Example("float[4,3] x, int64[1] c", "y = ReduceSum (x, c)", {"c": ints(0)}),
    *(Example("float[2,4,3] x", f"y = {op} <axis=2> (x)") for op in ("ArgMax", "ArgMin", "Softmax", "LogSoftmax",
                                                                     "Hardmax")),
    Example("float[2,4,3] x", "y = Softmax <axis=1> (x)", opset=11),
    Example("float[2,4,3] x, int64 c", "y = CumSum (x, c)", {"c": np.int64(1)}),
    Example("float[2,4,3] x, int64 c", "y = CumProd (x, c)", {"c": np.int64(1)}, opset=26),
    Example("float[2,4] w", "y = LpNormalization <axis=1> (w)"),
    Example("float[2,4,5] x, int64[1] c", "y, y1 = TopK (x, c)", {"c": ints(2)}),
    Example("float[4,2,3] x, int64[2] c", "y = ReverseSequence (x, c)", {"c": ints(4, 2)}),
    Example("float[4,3,3] x", "y = Trilu (x)"),
    Example("float[2,4,3] x, float[4] w, float[4] w1, float[4] w2, float[4] c",
            "y = BatchNormalization (x, w, w1, w2, c)", {"c": np.ones(4, np.float32)}),
    Example("float[2,4,3] x, float[4] w, float[4] w1", "y = InstanceNormalization (x, w, w1)"),
    Example("float[2,6,3] x, float[6] w, float[6] w1", "y = GroupNormalization <num_groups=3> (x, w, w1)", opset=21),
    Example("float[2,6,3] x, float[3] w, float[3] w1", "y = GroupNormalization <num_groups=3> (x, w, w1)", opset=18),
    Example("float[2,3,4] x, float[4] w, float[4] w1", "y = LayerNormalization (x, w, w1)"),
    Example("float[2,3,4] x, float[4] w", "y = RMSNormalization (x, w)", opset=23),
    Example("float[2,4,3,3] x", "y = LRN <size=3> (x)"),
    Example("float[2,4,3,3] x", "y = MeanVarianceNormalization (x)"),
    *(Example("float[2,4,6,6] x", f"y = {op} <kernel_shape=[2,2]> (x)") for op in ("MaxPool", "AveragePool", "LpPool")),
    *(Example("float[2,4,6,6] x", f"y = {op} (x)") for op in ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")),
    Example("float[2,3,4] x, float[4] w", "y = SimplifiedLayerNormalization (x, w)"),
    Example("float[2,3,4] x, float[2,3,4] x1, float[4] w, float[4] w1",
            f"y, y1, y2, y3 = {MS}.SkipLayerNormalization (x, x1, w, w1)", domain=MS),
    Example("float[2,3,4] x, float[2,3,4] x1, float[4] w",
            f"y, y1, y2, y3 = {MS}.SkipSimplifiedLayerNormalization (x, x1, w)", domain=MS),
]  # fmt: skip

_SCALES = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.4], np.float32)
_POINTS = np.array([3, 0, -7, 1, 2, 5], np.int8)
_CODES = {"c": np.float32(0.1), "c1": np.uint8(2), "c4": np.float32(0.2), "c5": np.uint8(4)}
QUANTIZED = [
    Example("float[2,4,3] x, float[4] c, int8[4] c1", "y = QuantizeLinear <axis=1> (x, c, c1)",
            {"c": np.array([0.1, 0.2, 0.3, 0.1], np.float32), "c1": np.zeros(4, np.int8)}),
    Example("uint8[4,3] w, float[4] c, uint8[4] c1", "y = DequantizeLinear <axis=0> (w, c, c1)",
            {"c": np.array([0.1, 0.2, 0.3, 0.1], np.float32), "c1": np.array([3, 128, 7, 0], np.uint8)}, opset=21),
    Example("uint8[3,4] x, float c, uint8 c1, int8[4,5] w, float[5] c2, int8[5] c3, float c4, uint8 c5",
            "y = QLinearMatMul (x, c, c1, w, c2, c3, c4, c5)", {**_CODES, "c2": _SCALES[:5], "c3": _POINTS[:5]}),
    Example("uint8[3,4] x, int8[4,5] w, float c, float[5] c1, uint8 c2, int8[5] c3, float[5] w1",
            f"y = {MS}.MatMulIntegerToFloat (x, w, c, c1, c2, c3, w1)",
            {"c": _CODES["c"], "c1": _SCALES[:5], "c2": np.uint8(2), "c3": _POINTS[:5]}, domain=MS),
    Example("float[3,4] w, int8[4,5] w1, float[5] c, int8[5] c1, float[5] w2",
            f"y = {MS}.DynamicQuantizeMatMul (w, w1, c, c1, w2)", {"c": _SCALES[:5], "c1": _POINTS[:5]}, domain=MS),
    Example("uint8[3,4] x, float c, uint8 c1, int8[5,4] w, float[5] c2, int8[5] c3, int32[5] w1, float c4, uint8 c5",
            f"y = {MS}.QGemm <transB=1> (x, c, c1, w, c2, c3, w1, c4, c5)",
            {**_CODES, "c2": _SCALES[:5], "c3": _POINTS[:5]}, domain=MS),
    Example("uint8[1,4,3,3] x, uint8[6,2,1,1] w, uint8 c1, uint8 c2", "y = ConvInteger <group=2> (x, w, c1, c2)",
            {"c1": np.uint8(2), "c2": np.uint8(1)}),
    Example("uint8[1,4,3,3] x, float c, uint8 c1, int8[6,4,1,1] w, float[6] c2, int8[6] c3, float c4, uint8 c5, "
            "int32[6] w1", "y = QLinearConv (x, c, c1, w, c2, c3, c4, c5, w1)",
            {**_CODES, "c2": _SCALES, "c3": np.zeros(6, np.int8)}),
    *(Example("uint8[2,4] x, float c, uint8 c1, uint8[4] w, float c2, uint8 c3, float c4, uint8 c5",
              f"y = {MS}.{op} (x, c, c1, w, c2, c3, c4, c5)", {**_CODES, "c2": _CODES["c"], "c3": _CODES["c1"]},
              domain=MS) for op in ("QLinearAdd", "QLinearMul")),
    *(Example("uint8[2,4,3,3] x, float c, uint8 c1, float c4, uint8 c5", f"y = {MS}.{op} (x, c, c1, c4, c5)", _CODES,
              domain=MS) for op in ("QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool",
                                    "QLinearAveragePool <kernel_shape=[2,2]>", "QLinearSoftmax <axis=3, opset=13>")),
    Example("float c4, uint8 c5, uint8[2,4] x, float c, uint8 c1, uint8[2,3] x1, float c2, uint8 c3",
            f"y = {MS}.QLinearConcat <axis=1> (c4, c5, x, c, c1, x1, c2, c3)",
            {**_CODES, "c2": _CODES["c"], "c3": _CODES["c1"]}, domain=MS),
    Example("float[3,4] x", "y, y1, y2 = DynamicQuantizeLinear (x)", free=False),
    Example("float[3,4] w", "y, y1, y2 = DynamicQuantizeLinear (w)"),
]  # fmt: skip

_LSTM = "float[3,2,4] x, float[{d},{g},4] w, float[{d},{g},5] w1, float[{d},{b}] w2"
RECURRENT = [
    Example(_LSTM.format(d=1, g=20, b=40), "y, y1, y2 = LSTM <hidden_size=5> (x, w, w1, w2)"),
    Example(_LSTM.format(d=2, g=15, b=30),
            'y, y1 = GRU <hidden_size=5, direction="bidirectional", linear_before_reset=1> (x, w, w1, w2)'),
    Example(_LSTM.format(d=1, g=5, b=10) + ", float[1,2,5] x5", "y, y1 = RNN <hidden_size=5> (x, w, w1, w2, , x5)"),
    Example(_LSTM.format(d=1, g=20, b=40) + ", float[1,2,5] w5, float[1,2,5] w6, float[1,15] w7",
            "y, y1, y2 = LSTM <hidden_size=5> (x, w, w1, w2, , w5, w6, w7)"),
    Example("float[3,2,4] x, int8[1,4,20] w, int8[1,5,20] w1, float[1,40] w2, float[1,20] c, int8[1,20] c1, "
            "float[1] c2, int8[1] c3",
            f"y, y1, y2 = {MS}.DynamicQuantizeLSTM <hidden_size=5> (x, w, w1, w2, , , , , c, c1, c2, c3)",
            {"c": np.tile(_SCALES[:5], 4)[None], "c1": np.zeros((1, 20), np.int8),
             "c2": _SCALES[:1], "c3": np.zeros(1, np.int8)}, domain=MS),
]  # fmt: skip

ATTENTION = [
    Example("float[2,3,12] w, float[2,5,6] w1, float[2,5,8] w2",
            "y = Attention <q_num_heads=4, kv_num_heads=2> (w, w1, w2)", opset=23),
    Example("float[2,4,3,6] w, float[2,2,5,6] w1, float[2,2,5,8] w2, float[4,3,5] x",
            "y = Attention (w, w1, w2, x)", opset=23),
    Example("float[2,3,12] x, float[2,5,12] x1, float[2,5,8] x2",
            f"y = {MS}.MultiHeadAttention <num_heads=2> (x, x1, x2)", domain=MS),
    Example("float[2,3,12] w, float[2,5,12] w1, float[2,5,8] w2, float[32] w3",
            f"y = {MS}.MultiHeadAttention <num_heads=2> (w, w1, w2, w3)", domain=MS),
    Example("float[2,3,12] x, float[2,3,12] x1, float[2,3,8] x2",
            f"y = {MS}.MultiHeadAttention <num_heads=2, unidirectional=1> (x, x1, x2)", domain=MS),
    Example("float[2,3,6] x, float[6,24] w, float[24] w1", f"y = {MS}.Attention <num_heads=2> (x, w, w1)", domain=MS),
    Example("float[2,3,6] x, float[6,24] w, float[24] w1",
            f"y = {MS}.Attention <num_heads=2, unidirectional=1> (x, w, w1)", domain=MS),
    Example("float[2,3,64] w, float[2,3,32] w1, float[2,3,32] w2, int32[2,1] c, int32[1] c1",
            f"y, y1, y2 = {MS}.GroupQueryAttention <num_heads=4, kv_num_heads=2> (w, w1, w2, , , c, c1)",
            {"c": np.full((2, 1), 2, np.int32), "c1": np.array([3], np.int32)}, domain=MS),
    Example("float[2,4,3,8] x, float[3,4] c, float[3,4] c1, int64[2,3] c2", "y = RotaryEmbedding (x, c, c1, c2)",
            {"c": np.ones((3, 4), np.float32), "c1": np.ones((3, 4), np.float32),
             "c2": np.array([[0, 1, 2]] * 2)}, opset=23),
    Example("float[2,3,16] x, int64[2,3] c2, float[3,4] c, float[3,4] c1",
            f"y = {MS}.RotaryEmbedding <num_heads=2> (x, c2, c, c1)",
            {"c": np.ones((3, 4), np.float32), "c1": np.ones((3, 4), np.float32),
             "c2": np.array([[0, 1, 2]] * 2)}, domain=MS),
]  # fmt: skip

EXAMPLES = [*POINTWISE, *PRODUCTS, *MOVES, *SHAPING, *REDUCTIONS, *QUANTIZED, *RECURRENT, *ATTENTION]
