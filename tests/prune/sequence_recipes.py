"""Steps of random graphs over sequences: attention in its many spellings, recurrence, look-ups, int8 weights."""

from __future__ import annotations

import numpy as np

from tests.prune.graph_builder import Builder, recipe


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
