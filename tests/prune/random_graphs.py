"""Random graphs of the ops that have axis rules: images with channels, sequences with heads, and ways between them.

A graph starts from one image input; each step draws a recipe, which writes ONNX text. Half of the graphs have an open
batch size, whose Reshapes copy it, infer it, or compute it with Shape.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from optimizer.model import shapes

Recipe = Callable[["Builder"], None]
RECIPES: list[Recipe] = []


def recipe(function: Recipe) -> Recipe:
    """Register a step."""
    RECIPES.append(function)
    return function


class Builder:
    """The graph so far: text, constants, and images [n, c, s, s] as (name, c, s)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.constants: dict[str, np.ndarray] = {}
        self.batch: int | None = None if self.rng.random() < 0.5 else 2
        self.count = 0
        self.images: list[tuple[str, int, int]] = [("input", 4, 8)]

    def pick(self, *choices: object) -> object:
        """One of several, at random."""
        return choices[int(self.rng.integers(len(choices)))]

    def image(self) -> tuple[str, int, int]:
        """A recent image, mostly the last."""
        return self.images[-1] if self.rng.random() < 0.75 else self.images[int(self.rng.integers(len(self.images)))]

    def channels(self) -> int:
        return int(self.pick(4, 6, 8, 12))

    def op(self, text: str, *results: str) -> str:
        """A node; returns its first result."""
        names = results or (self.name(),)
        self.lines.append(f"{', '.join(names)} = {text}")
        return names[0]

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.rng.standard_normal(shape) * scale / np.sqrt(max(1, np.prod(shape[1:]))))

    def positive(self, *shape: int) -> str:
        return self.constant(self.rng.uniform(0.5, 1.5, shape))

    def constant(self, array: object, dtype: type = np.float32) -> str:
        name = self.name().replace("v", "k")
        self.constants[name] = np.asarray(array, dtype)
        return name

    def ints(self, *numbers: int) -> str:
        return self.constant(numbers, np.int64)

    def reshape(self, x: str, *sizes: int) -> str:
        """To [batch, *sizes], the batch size copied, inferred or computed."""
        way = self.rng.integers(3)
        if way == 0:
            target = self.ints(0, *sizes)
        elif way == 1:
            target = self.ints(-1, *sizes)
        else:
            shape = self.op(f"Shape ({x})")
            first = self.op(f"Gather <axis=0> ({shape}, {self.ints(0)})")
            target = self.op(f"Concat <axis=0> ({first}, {self.ints(*sizes)})")
        return self.op(f"Reshape ({x}, {target})")

    def sequence(self) -> tuple[str, int, int, str, int]:
        """An image as a sequence [n, time, channels]; also returns what is needed to go back."""
        x, c, s = self.image()
        flat = self.reshape(x, c, s * s)
        return self.op(f"Transpose <perm=[0,2,1]> ({flat})"), c, s * s, x, s

    def back(self, y: str, c: int, s: int) -> None:
        """A sequence as an image."""
        turned = self.op(f"Transpose <perm=[0,2,1]> ({y})")
        self.images.append((self.reshape(turned, c, s, s), c, s))

    def linear(self, x: str, c: int, out: int) -> str:
        y = self.op(f"MatMul ({x}, {self.weight(c, out, scale=c**-0.5 * out**0.5)})")
        return self.op(f"Add ({y}, {self.weight(out)})") if self.rng.random() < 0.7 else y

    def conv(self, x: str, c: int, out: int, kernel: int = 1, groups: int = 1) -> str:
        weight, pad = self.weight(out, c // groups, kernel, kernel), kernel // 2
        bias = f", {self.weight(out)}" if self.rng.random() < 0.5 else ""
        return self.op(f"Conv <group={groups}, pads=[{pad},{pad},{pad},{pad}]> ({x}, {weight}{bias})")


@recipe
def plain_conv(b: Builder) -> None:
    x, c, s = b.image()
    out = b.channels()
    b.images.append((b.conv(x, c, out, int(b.pick(1, 3))), out, s))


@recipe
def grouped_conv(b: Builder) -> None:
    x, c, s = b.image()
    groups = int(b.pick(*[g for g in (2, 3, 4, c) if c % g == 0]))
    out = groups * int(b.pick(1, 2))
    b.images.append((b.conv(x, c, out, 3, groups), out, s))


@recipe
def transposed_conv(b: Builder) -> None:
    x, c, s = b.image()
    groups = 2 if c % 2 == 0 and b.rng.random() < 0.5 else 1
    w = b.weight(c, 4 // groups, 3, 3)
    b.images.append((b.op(f"ConvTranspose <group={groups}, pads=[1,1,1,1]> ({x}, {w}, {b.weight(4)})"), 4, s))


@recipe
def activation(b: Builder) -> None:
    x, c, s = b.image()
    op = b.pick("Relu", "Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "Exp", "Erf", "Softplus", "Abs", "Identity", "Elu")
    x = b.op(f"Clip ({x}, {b.constant(-3)}, {b.constant(3)})") if op == "Exp" else x
    b.images.append((b.op(f"{op} ({x})"), c, s))


@recipe
def norm(b: Builder) -> None:
    x, c, s = b.image()
    scale, bias = b.positive(c), b.weight(c)
    batch = f"BatchNormalization ({x}, {scale}, {bias}, {b.weight(c)}, {b.positive(c)})"
    b.images.append((b.op(str(b.pick(batch, f"InstanceNormalization ({x}, {scale}, {bias})"))), c, s))


@recipe
def group_norm(b: Builder) -> None:
    x, c, s = b.image()
    groups = 2 if c % 2 == 0 else c
    flat = b.reshape(x, groups, c // groups * s * s)
    y = b.op(f"InstanceNormalization ({flat}, {b.positive(groups)}, {b.weight(groups)})")
    y = b.op(f"Mul ({b.reshape(y, c, s, s)}, {b.positive(c, 1, 1)})")
    b.images.append((y, c, s))


@recipe
def per_channel(b: Builder) -> None:
    x, c, s = b.image()
    k = b.positive(c, 1, 1)
    op = b.pick("Add", "Mul", "Sub", "Div", "PRelu", "Max")
    b.images.append((b.op(f"{op} ({x}, {k})"), c, s))


@recipe
def residual(b: Builder) -> None:
    x, c, s = b.image()
    b.images.append((b.op(f"{b.pick('Add', 'Mul', 'Sub', 'Min')} ({x}, {b.conv(x, c, c, 3)})"), c, s))


@recipe
def two_branches(b: Builder) -> None:
    x, c, s = b.image()
    out = b.channels()
    one, other = b.conv(x, c, out), b.conv(x, c, out, 3)
    cond = b.op(f"Greater ({one}, {b.constant(0)})")
    b.images.append((b.op(str(b.pick(f"Add ({one}, {other})", f"Where ({cond}, {one}, {other})"))), out, s))


@recipe
def squeeze_excite(b: Builder) -> None:
    x, c, s = b.image()
    pooled = b.op(f"{b.pick('GlobalAveragePool', 'GlobalMaxPool')} ({x})")
    gate = b.op(f"Sigmoid ({b.conv(b.op(f'Relu ({b.conv(pooled, c, 6)})'), 6, c)})")
    b.images.append((b.op(f"Mul ({x}, {gate})"), c, s))


@recipe
def concatenation(b: Builder) -> None:
    x, c, s = b.image()
    parts = [x, b.conv(x, c, 4), *[name for name, _, size in b.images[:-1] if size == s][:1]]
    sizes = {x: c, parts[1]: 4} | {name: own for name, own, _ in b.images}
    b.images.append((b.op(f"Concat <axis=1> ({', '.join(parts)})"), sum(sizes[part] for part in parts), s))


@recipe
def split(b: Builder) -> None:
    x, c, s = b.image()
    one, other = b.name(), b.name()
    if c % 2 == 0 and b.rng.random() < 0.5:
        b.op(f"Split <axis=1, num_outputs=2> ({x})", one, other)
        gated = b.op(f"Mul ({one}, {b.op(f'Sigmoid ({other})')})")
        b.images.append((gated, c // 2, s))
    else:
        b.op(f"Split <axis=1> ({x}, {b.ints(1, c - 1)})", one, other)
        b.images.append((b.op(f"Concat <axis=1> ({other}, {one})"), c, s))


@recipe
def slicing(b: Builder) -> None:
    x, c, s = b.image()
    start, step = int(b.rng.integers(0, 2)), int(b.pick(1, 1, 2))
    size = len(range(start, c, step))
    y = b.op(f"Slice ({x}, {b.ints(start)}, {b.ints(1000)}, {b.ints(1)}, {b.ints(step)})")
    b.images.append((y, size, s))


@recipe
def shifted(b: Builder) -> None:
    x, c, s = b.image()
    a = b.op(f"Slice ({x}, {b.ints(2)}, {b.ints(s)}, {b.ints(2)})")
    z = b.op(f"Slice ({x}, {b.ints(0)}, {b.ints(2)}, {b.ints(2)})")
    b.images.append((b.op(f"Concat <axis=2> ({a}, {z})"), c, s))


@recipe
def gathered(b: Builder) -> None:
    x, c, s = b.image()
    places = b.rng.permutation(c)[: max(2, c - 1)]
    b.images.append((b.op(f"Gather <axis=1> ({x}, {b.ints(*places)})"), len(places), s))


@recipe
def shuffle(b: Builder) -> None:
    x, c, s = b.image()
    groups = 2 if c % 2 == 0 else 1
    y = b.op(f"Transpose <perm=[0,2,1,3,4]> ({b.reshape(x, groups, c // groups, s, s)})")
    b.images.append((b.reshape(y, c, s, s), c, s))


@recipe
def padded(b: Builder) -> None:
    x, c, s = b.image()
    y = b.op(f"Pad ({x}, {b.ints(0, 1, 0, 0, 0, 1, 0, 0)})")
    b.images.append((y, c + 2, s))


@recipe
def pooled(b: Builder) -> None:
    x, c, s = b.image()
    if s >= 4:
        op = b.pick("MaxPool", "AveragePool")
        b.images.append((b.op(f"{op} <kernel_shape=[2,2], strides=[2,2]> ({x})"), c, s // 2))


@recipe
def resized(b: Builder) -> None:
    x, c, s = b.image()
    if s <= 4:
        scales = b.constant([1, 1, 2, 2])
        b.images.append((b.op(f'Resize <mode="nearest"> ({x}, , {scales})'), c, s * 2))


@recipe
def space(b: Builder) -> None:
    x, c, s = b.image()
    if s >= 4:
        y = b.op(f"SpaceToDepth <blocksize=2> ({x})")
        y = b.op(f"Relu ({b.conv(y, 4 * c, 16)})")
        b.images.append((b.op(f'DepthToSpace <blocksize=2, mode="{b.pick("DCR", "CRD")}"> ({y})'), 4, s))


@recipe
def tiled(b: Builder) -> None:
    x, c, s = b.image()
    pooled = b.op(f"GlobalAveragePool ({x})")
    wide = str(b.pick(f"Tile ({pooled}, {b.ints(1, 1, s, s)})", f"Expand ({pooled}, {b.ints(1, c, s, s)})"))
    b.images.append((b.op(f"Add ({x}, {b.op(wide)})"), c, s))


@recipe
def channels_last(b: Builder) -> None:
    x, c, s = b.image()
    y = b.op(f"Transpose <perm=[0,2,3,1]> ({x})")
    if b.rng.random() < 0.5:
        y = b.op(f"LayerNormalization ({y}, {b.positive(c)}, {b.weight(c)})")
    y = b.linear(b.op(f"Gelu ({b.linear(y, c, 10)})"), 10, c)
    y = b.op(f"Mul ({y}, {b.positive(c)})")
    y = b.op(f"Transpose <perm=[0,3,1,2]> ({y})")
    b.images.append((b.op(f"Add ({x}, {y})"), c, s))


@recipe
def decomposed_norm(b: Builder) -> None:
    x, c, _, _, s = b.sequence()
    axis = b.ints(int(b.pick(1, 2)))
    centred = b.op(f"Sub ({x}, {b.op(f'ReduceMean ({x}, {axis})')})")
    variance = b.op(f"ReduceMean ({b.op(f'Mul ({centred}, {centred})')}, {axis})")
    root = b.op(f"Sqrt ({b.op(f'Add ({variance}, {b.constant(1e-3)})')})")
    b.back(b.op(f"Mul ({b.op(f'Div ({centred}, {root})')}, {b.positive(c)})"), c, s)


def heads_of(b: Builder, x: str, time: int, heads: int, dim: int) -> str:
    """[n, time, heads*dim] -> [n, heads, time, dim]."""
    return b.op(f"Transpose <perm=[0,2,1,3]> ({b.reshape(x, time, heads, dim)})")


def attended(b: Builder, q: str, k: str, v: str, time: int, heads: int, dim: int) -> str:
    """softmax(q k') v, merged again."""
    scores = b.op(f"MatMul ({q}, {b.op(f'Transpose <perm=[0,1,3,2]> ({k})')})")
    scores = b.op(f"Mul ({scores}, {b.constant(dim**-0.5)})")
    if b.rng.random() < 0.5:
        scores = b.op(f"Add ({scores}, {b.weight(heads, time, time)})")
    y = b.op(f"MatMul ({b.op(f'Softmax <axis=-1> ({scores})')}, {v})")
    return b.reshape(b.op(f"Transpose <perm=[0,2,1,3]> ({y})"), time, heads * dim)


@recipe
def attention(b: Builder) -> None:
    x, c, time, _, s = b.sequence()
    heads, dim = int(b.pick(2, 3)), int(b.pick(2, 4))
    parts = [heads_of(b, b.linear(x, c, heads * dim), time, heads, dim) for _ in range(3)]
    b.back(b.linear(attended(b, *parts, time, heads, dim), heads * dim, c), c, s)


@recipe
def packed_attention(b: Builder) -> None:
    x, c, time, _, s = b.sequence()
    heads, dim = 2, int(b.pick(2, 4))
    y = b.linear(x, c, 3 * heads * dim)
    if b.rng.random() < 0.5:
        names = [b.name() for _ in range(3)]
        b.op(f"Split <axis=2> ({y}, {b.ints(*[heads * dim] * 3)})", *names)
        parts = [heads_of(b, name, time, heads, dim) for name in names]
    else:
        y = b.op(f"Transpose <perm=[2,0,3,1,4]> ({b.reshape(y, time, 3, heads, dim)})")
        parts = [b.op(f"Gather <axis=0> ({y}, {b.constant(i, np.int64)})") for i in range(3)]
    b.back(b.linear(attended(b, *parts, time, heads, dim), heads * dim, c), c, s)


@recipe
def grouped_query_attention(b: Builder) -> None:
    x, c, time, _, s = b.sequence()
    q = heads_of(b, b.linear(x, c, 12), time, 4, 3)
    shared = []
    for _ in range(2):
        part = b.reshape(heads_of(b, b.linear(x, c, 6), time, 2, 3), 2, 1, time, 3)
        wide = b.op(f"Expand ({part}, {b.ints(1, 2, 2, time, 3)})")
        shared.append(b.reshape(wide, 4, time, 3))
    b.back(b.linear(attended(b, q, *shared, time, 4, 3), 12, c), c, s)


@recipe
def linear_attention(b: Builder) -> None:
    x, c, _, _, s = b.sequence()
    q, k = (b.op(f"{b.pick('Relu', 'Sigmoid')} ({b.linear(x, c, 6)})") for _ in range(2))
    context = b.op(f'Einsum <equation="ntd,nte->nde"> ({k}, {b.linear(x, c, 5)})')
    y = b.op(f'Einsum <equation="...td,...de->...te"> ({q}, {context})')
    b.back(b.linear(y, 5, c), c, s)


@recipe
def rotary(b: Builder) -> None:
    x, c, time, _, s = b.sequence()
    y = heads_of(b, b.linear(x, c, 8), time, 2, 4)
    one = b.op(f"Slice ({y}, {b.ints(0)}, {b.ints(2)}, {b.ints(3)})")
    two = b.op(f"Slice ({y}, {b.ints(2)}, {b.ints(4)}, {b.ints(3)})")
    turned = b.op(f"Concat <axis=3> ({b.op(f'Neg ({two})')}, {one})")
    y = b.op(f"Add ({b.op(f'Mul ({y}, {b.weight(time, 4)})')}, {b.op(f'Mul ({turned}, {b.weight(time, 4)})')})")
    b.back(b.linear(attended(b, y, y, y, time, 2, 4), 8, c), c, s)


@recipe
def recurrence(b: Builder) -> None:
    x, c, time, _, s = b.sequence()
    x = b.op(f"Transpose <perm=[1,0,2]> ({x})")
    op, gates = b.pick(("LSTM", 4), ("GRU", 3), ("RNN", 1))
    d, h = int(b.pick(1, 2)), 5
    inputs = f"{x}, {b.weight(d, gates * h, c)}, {b.weight(d, gates * h, h)}, {b.weight(d, 2 * gates * h)}"
    direction = "forward" if d == 1 else "bidirectional"
    y = b.op(f'{op} <hidden_size={h}, direction="{direction}"> ({inputs})')
    y = b.reshape(b.op(f"Transpose <perm=[2,0,1,3]> ({y})"), time, d * h)
    b.back(b.linear(y, d * h, c), c, s)


@recipe
def lookup(b: Builder) -> None:
    x, c, s = b.image()
    pooled = b.op(f"GlobalAveragePool ({x})")
    places = b.op(f"Cast <to=7> ({b.op(f'Greater ({pooled}, {b.constant(0)})')})")
    table = b.op(f"Gather <axis=0> ({b.weight(2, 6)}, {b.op(f'ReduceMax ({places}, {b.ints(1, 2, 3)})')})")
    bias = b.reshape(b.op(f"MatMul ({table}, {b.weight(6, c)})"), c, 1, 1)
    b.images.append((b.op(f"Add ({x}, {bias})"), c, s))


@recipe
def quantized(b: Builder) -> None:
    x, c, s = b.image()
    weight = b.constant(b.rng.integers(-128, 128, (6, c, 1, 1)), np.int8)
    weight = b.op(f"DequantizeLinear <axis=0> ({weight}, {b.constant(b.rng.uniform(0.001, 0.01, 6))})")
    b.images.append((b.op(f"Conv ({x}, {weight})"), 6, s))


def graph(seed: int, steps: int = 5, recipes: list[Recipe] | None = None) -> ir.Model:
    """A model with inferred shapes; the same for the same seed. All recipes take part unless some are given."""
    recipes = recipes or RECIPES
    b = Builder(seed)
    plain_conv(b)
    for _ in range(steps):
        recipes[int(b.rng.integers(len(recipes)))](b)
        if b.images[-1][1] > 48:
            b.images.append((b.conv(*b.images[-1][:2], 8), 8, b.images[-1][2]))
    x, c, s = b.images[-1]
    flat = b.op(f"Flatten ({b.op(f'GlobalAveragePool ({x})')})") if b.rng.random() < 0.5 else None
    if flat is None:
        flat, c = b.op(f"Flatten ({x})"), c * s * s
    b.op(f"Gemm ({flat}, {b.weight(c, 3, scale=c**-0.5 * 3**0.5)}, {b.weight(3)})", "output")
    batch = "n" if b.batch is None else b.batch
    text = f"g (float[{batch},4,8,8] input) => (float[{batch},3] output) {{ {' '.join(b.lines)} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in b.constants.items())
    model = ir.from_proto(proto)
    assert shapes.infer(model) is None
    return model
