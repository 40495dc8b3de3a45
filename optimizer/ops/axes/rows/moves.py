"""Ops that move positions about: array indexing on labels.

Where a node tells positions by number (Slice, Split, Gather with constant indices), the numbers are computed anew from
what stays. A vocabulary that is looked up by computed indices stays whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from optimizer.ops.axes.cut import Cut
from optimizer.ops.axes.labels import Bools, Ints
from optimizer.ops.axes.layout import Array
from optimizer.ops.axes.op import Op, Refuse
from optimizer.ops.axes.rules import MS, rule, say
from optimizer.ops.axes.sentence import Place, Says, letters, spell

_RUNTIME = "cuts, joins or pads an axis of a size, or at places, only known at run time"


def _permuted(op: Op) -> str:
    names = letters(len(op.input(0)))
    return f"{spell(names)} -> {spell(names[axis] for axis in op.numbers('perm') or range(len(names))[::-1])}"


say("Transpose", _permuted)


@rule("Squeeze")
def squeeze(op: Op) -> str:
    """Axes of size 1 leave."""
    x, axes = op.input(0), op.numbers("axes", 1)
    if axes is None and any(axis.open for axis in x):
        raise Refuse("squeezes axes of unknown size")
    gone = [i for i, a in enumerate(x) if a.size == 1] if axes is None else [axis % len(x) for axis in axes]
    names = ["1" if axis in gone else name for axis, name in enumerate(letters(len(x)))]
    return f"{spell(names)} -> {' '.join(name for name in names if name != '1')}"


@rule("Unsqueeze")
def unsqueeze(op: Op) -> str:
    """Axes of size 1 come in."""
    names, axes = letters(len(op.input(0))), op.numbers("axes", 1) or []
    out = list(names)
    for axis in sorted(axis % (len(names) + len(axes)) for axis in axes):
        out.insert(axis, "1")
    return f"{spell(names)} -> {spell(out)}"


@rule("Concat")
def concat(op: Op) -> Says:
    """Labels one after the other; the other axes align."""
    return _joined(op, range(len(op.node.inputs)), "")


@rule("QLinearConcat", domain=MS)
def coded_concat(op: Op) -> Says:
    """Scale and zero point of the result, then x, scale, zero point again and again."""
    return _joined(op, range(2, len(op.node.inputs), 3), "~")


def _joined(op: Op, inputs: Sequence[int], mark: str) -> Says:
    at = op.at(1, inputs[0])
    opens = any(op.input(index)[at].open for index in inputs)
    own = {index: f"{'P' if opens else 'p'}{index}" for index in inputs}
    operands = (f"|<{own[index]}>" if index in own else "_" for index in range(len(op.node.inputs)))
    whole = "Z" if opens else f"({'+'.join(own.values())})"
    return Says(f"{', '.join(operands)} -> {mark}<{whole}>", _RUNTIME, at)


@rule("Split")
def split(op: Op) -> Says:
    """The axis cut into pieces; `split` becomes the lengths that stay."""
    x, count = op.input(0), len(op.node.outputs)
    at = op.at(0)
    if any(not value.name for value in op.node.outputs):
        raise Refuse("drops one of its results")
    if (size := x[at].size) is None:
        return Says(f"<P> -> {', '.join(f'<Z{number}>' for number in range(count))}", _RUNTIME, at)
    parts = [f"p{number}" for number in range(count)]
    sizes = dict(zip(parts, op.numbers("split", 1) or _equal(size, op.number("num_outputs", count)), strict=True))
    index = 1 if op.version >= 13 else None
    op.edits.append(_listed)
    text = f"<({'+'.join(parts)})> -> {', '.join(f'<{part}>' for part in parts)}"
    return Says(text, _RUNTIME, at, sizes, counts={("split", index, number): part for number, part in enumerate(parts)})


def _equal(size: int, count: int) -> list[int]:
    part = -(-size // count)
    return [part] * (count - 1) + [size - part * (count - 1)]


def _listed(node: ir.Node, cut: Cut) -> None:
    """Sizes take the place of a number of equal pieces."""
    if node.attributes.get_int("axis", 0) % max(1, len(cut.layout(node.inputs[0]))) in cut.pruned(node.inputs[0]):
        node.attributes.pop("num_outputs", None)


@rule("Slice")
def slice_(op: Op) -> Says:
    """Ranges of positions; a strided range of a pruned axis becomes a Gather."""
    x = op.input(0)
    left, right, rest = letters(len(x)), letters(len(x)), list[str]()
    sizes, counts, picks = dict[str, int](), dict[Place, str](), dict[str, tuple[str, Array]]()
    for order, (axis, span) in enumerate(_spans(op, len(x))):
        size, own = x[axis].size, left[axis]
        if span is None or size is None:
            left[axis], right[axis] = f"P{axis}", f"Z{axis}"
            continue
        start, stop, step = span.indices(size)
        if step == 1 and start < stop:
            before, after = f"p{axis}", f"s{axis}"
            left[axis] = f"({before}+{own}+{after})"
            sizes |= {before: start, own: stop - start, after: size - stop}
            counts |= {("starts", 1, order): before, ("ends", 2, order): f"{before}+{own}"}
            rest += [before, after]
        else:
            right[axis], picks[f"g{axis}"] = f"g{axis}", (own, np.arange(size)[span])
            op.edits.append(partial(_strided, axis, order, np.arange(size)[span], x[axis].labels))
    text = f"{spell(left)} -> {', '.join([spell(right), *rest])}"
    return Says(text, whole=_RUNTIME, sizes=sizes, counts=counts, picks=picks)


def _spans(op: Op, rank: int) -> list[tuple[int, slice | None]]:
    """The axes that are cut, and how; None where that is computed."""
    starts, ends, axes, steps = (op.listed(name, i) for i, name in enumerate(("starts", "ends", "axes", "steps"), 1))
    if axes is None and op.has(3):
        raise Refuse("computes its axes at run time")
    if starts is None or ends is None or (steps is None and op.has(4)):
        return [(axis % rank, None) for axis in axes or range(rank)]
    axes = axes or list(range(len(starts)))
    cuts = zip(axes, starts, ends, steps or [1] * len(axes), strict=True)
    return [(a % rank, slice(s, None if step < 0 and e < -(2**31) + 1 else e, step)) for a, s, e, step in cuts]


def _strided(axis: int, order: int, places: Array, labels: Ints, node: ir.Node, cut: Cut) -> None:
    """Pick what stays, and slice all of that."""
    keep, data = cut.stay(labels), node.inputs[0]
    if keep.all() or data is None:
        return
    kept = _renumbered(keep, places)
    node.replace_input_with(0, cut.gather(data, axis, kept, node))
    for name, index, number in (("starts", 1, 0), ("ends", 2, len(kept)), ("steps", 4, 1)):
        cut.write(node, name, index, {order: number}, [order] * (index < len(node.inputs)))


def _renumbered(keep: Bools, places: Array) -> Array:
    """Places in the numbers of what stays, without those that go."""
    places = np.where(places < 0, places + len(keep), places)
    return np.asarray((np.cumsum(keep) - 1)[places if places.ndim == 0 else places[keep[places]]])


@rule("Gather")
def gather(op: Op) -> Says:
    """Constant indices (a number or a list) pick labels; otherwise the looked-up axis stays whole."""
    x, indices = op.input(0), op.const(1)
    at = op.at(0)
    if indices is None or indices.ndim > 1 or x[at].size is None:
        return Says("<P>, ~... -> <...>", "looks up this axis", at)
    op.edits.append(partial(_renumber, x[at].labels, indices))
    picked = "g" if indices.ndim else "G"
    text = f"<b>, _ -> <{'g' * indices.ndim}>"
    return Says(text, "picks one position of this axis", at, picks={picked: ("b", np.atleast_1d(indices))})


def _renumber(labels: Ints, indices: Array, node: ir.Node, cut: Cut) -> None:
    keep = cut.stay(labels)
    if not keep.all():
        new = cut.constant(_renumbered(keep, indices).astype(indices.dtype), f"{node.name}_indices")
        node.replace_input_with(1, new)


def _places(op: Op, looked_up: int) -> tuple[str, str, str]:
    """data[looked up..., rest...], indices[places..., depth], and the places: only the rest is free."""
    if (depth := op.input(1)[-1].size) is None:
        raise Refuse("has indices of unknown depth")
    data, indices = (letters(n, range(n), name) for n, name in ((looked_up + depth, "a"), (len(op.input(1)), "i")))
    return f"{spell(data)} ...", spell(indices), spell(indices[:-1])


@rule("GatherND")
def gather_nd(op: Op) -> Says:
    """The rest of each place that is looked up."""
    data, indices, places = _places(op, op.number("batch_dims", 0))
    return Says(f"{data}, {indices} -> {places} ...", "looks up this axis")


@rule("ScatterND")
def scatter_nd(op: Op) -> Says:
    """Other values for the rest of some places."""
    data, indices, places = _places(op, 0)
    return Says(f"|{data}, {indices}, |{places} ... -> {data}", "writes to places of this axis")


@rule("GatherElements", "ScatterElements")
def elements(op: Op) -> Says:
    """data, indices (, updates) of one rank: `axis` is looked up, the others are aligned where they are as long."""
    given = op.inputs()
    along, scatters = op.at(0), len(given) > 2
    unlike = [i for i, axes in enumerate(zip(*given, strict=True)) if i == along or len({a.size for a in axes}) > 1]
    texts = [spell(letters(len(given[0]), unlike)) for _ in given]
    texts = [text.replace("A", name) for text, name in zip(texts, "ABB", strict=False)]
    marks = "|~|" if scatters else " ~"
    operands = ", ".join(mark + text for mark, text in zip(marks, texts, strict=True))
    return Says(f"{operands} -> {texts[0 if scatters else 1]}", "looks up this axis")


def _blocks(op: Op, text: str) -> Says:
    """Channels are a grid of blocks, which stay whole, and places."""
    return Says(text, "turns this axis into blocks, or blocks into it", sizes={"Z": op.number("blocksize", 1) ** 2})


say("OneHot", lambda op: Says("<> -> ~<Z>", at=op.at(more=1)))
say("RoiAlign MaxRoiPool GridSample", Says("Nc* -> Rc*", "is sampled at places given by data"))
say("DepthToSpace", lambda op: _blocks(op, "n(Zc)* -> nc*" if op.text("mode", "DCR") == "DCR" else "n(cZ)* -> nc*"))
say("SpaceToDepth", lambda op: _blocks(op, "nc* -> n(Zc)*"))


@rule("Pad")
def pad(op: Op) -> Says:
    """Axes without padding pass; a constant is a Concat with constants, and leaves the others prunable too."""
    x, pads = op.input(0), op.numbers("pads", 1) or []
    axes = [axis % len(x) for axis in op.numbers("axes", 3) or range(len(x))]
    if any(number < 0 for number in pads):
        raise Refuse("crops by negative padding")
    filled = op.const(2) if op.has(2) else np.float32(op.node.attributes.get_float("value", 0.0))
    fills = op.text("mode", "constant") == "constant"
    left, right, sizes = letters(len(x)), letters(len(x)), dict[str, int]()
    for place, axis in enumerate(axes):
        before, after = pads[place], pads[place + len(axes)]
        if not (before or after):
            continue
        if x[axis].open or not fills:
            left[axis], right[axis] = f"P{axis}", f"Z{axis}"
            continue
        right[axis] = f"(P{axis}+{left[axis]}+S{axis})"
        sizes |= {f"P{axis}": before, f"S{axis}": after}
    mark = "~" if fills and (filled is None or np.any(filled)) else ""
    return Says(f"{spell(left)} -> {mark}{spell(right)}", _RUNTIME, sizes=sizes)
