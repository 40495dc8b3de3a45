"""The teacher: an ONNX model in ONNX Runtime, asked for its outputs and for tensors inside.

Samples are joined along the first axis where the model gives the same answers for them joined as one by one; that is
tried out, because a file that declares an open batch may still not have one. Answers to samples that come again
unchanged are kept, up to a limit of bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optimizer.errors import DataError
from optimizer.model.ports import Array, Feed
from optimizer.runtime.session import Options, open_session

Answers = dict[str, Array]
KEPT_BYTES = 512 * 2**20
_AGREES = 1e-3


class Teacher:
    """`model` with its outputs and the tensors named in `inside`."""

    def __init__(self, model: ir.Model, inside: Sequence[str] = (), threads: int = 1) -> None:
        self._session = open_session(_watched(model, inside), Options(threads=threads))
        self._kept: dict[tuple[int, int], Answers] = {}
        self._bytes = 0
        self._joined = False

    def try_joining(self, one: Feed, other: Feed) -> None:
        """Find out whether samples can be run together."""
        if shapes(one) != shapes(other):
            return
        apart = join([self._run(one), self._run(other)])
        try:
            together = self._run(join([one, other]))
        except DataError:
            return
        self._joined = same(apart, together)

    def answer(self, feeds: Sequence[Feed]) -> Answers:
        """The answers to samples of equal shapes, joined along the first axis."""
        if self._joined or len(feeds) == 1:
            return self._run(join(feeds))
        return join([self._run(feed) for feed in feeds])

    def answer_rows(self, rows: Feed, count: int) -> Answers:
        """The answers to `count` samples of one row each that are joined already."""
        return self._run(rows) if self._joined else self.answer(_apart(rows, count))

    def remembered(self, key: tuple[int, int], feed: Feed) -> Answers:
        """The answers to one sample that is the same whenever `key` is."""
        if key not in self._kept:
            found = self._run(feed)
            size = sum(array.nbytes for array in found.values())
            if self._bytes + size > KEPT_BYTES:
                return found
            self._bytes += size
            self._kept[key] = found
        return self._kept[key]

    def _run(self, feed: Feed) -> Answers:
        return dict(zip(self._session.outputs, self._session.run(feed), strict=True))


def shapes(feed: Feed) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays by name."""
    return {name: array.shape for name, array in feed.items()}


def join(feeds: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Arrays of equal names joined along the first axis; those without one are the same for all samples."""
    if len(feeds) == 1:
        return dict(feeds[0])
    return {
        name: np.concatenate([feed[name] for feed in feeds]) if array.ndim else array
        for name, array in feeds[0].items()
    }


def _apart(rows: Feed, count: int) -> list[dict[str, Array]]:
    """The samples of a joined feed, one by one."""
    parts = {name: np.split(array, count) if array.ndim else [array] * count for name, array in rows.items()}
    return [{name: part[position] for name, part in parts.items()} for position in range(count)]


def same(left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    """Whether two sets of answers agree in shape and, up to rounding, in value."""
    return all(
        array.shape == right[name].shape and np.allclose(array, right[name], rtol=_AGREES, atol=_scale(array) * _AGREES)
        for name, array in left.items()
    )


def _scale(array: Array) -> float:
    return float(np.abs(array).max()) if array.size and array.dtype.kind == "f" else 0.0


def _watched(model: ir.Model, inside: Sequence[str]) -> ir.Model:
    if not inside:
        return model
    copy = model.clone()
    values = {out.name: out for node in copy.graph for out in node.outputs}
    for name in inside:
        value = values[name]
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        copy.graph.outputs.append(value)
    return copy
