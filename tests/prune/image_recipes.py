"""Steps of random graphs over images: convolutions, norms, branches, moves of channels and of pixels."""

from __future__ import annotations

from tests.prune.graph_builder import Builder, recipe


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
