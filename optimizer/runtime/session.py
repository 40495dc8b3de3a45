"""Sessions: a model opened in ONNX Runtime on CPU with explicit threads, and what it reads and writes.

Spinning is off by default: two live sessions that spin sabotage each other's timing. Feeds are dicts from input name
to array; outputs come in graph order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from optimizer.errors import DataError, ModelError
from optimizer.runtime.engine import FATAL, RUNTIME_FAILURES, ort

if TYPE_CHECKING:  # measuring processes start in half the time without onnx_ir
    import onnx_ir as ir

    from optimizer.model.ports import Array, Feed

Source: TypeAlias = "ir.Model | bytes | Path | str"
Level: TypeAlias = Literal["none", "basic", "extended", "all"]

_REFUSALS: tuple[type[Exception], ...] = (*RUNTIME_FAILURES, ValueError, RuntimeError)

_MOST_KEPT = 64 * 2**20

_LEVELS = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """How to open a session. `dump` writes the runtime's optimized graph there; `profile` is a path prefix; without
    `saturate`, x86 kernels sum int8 products without overflowing 16 bits, which is slower where there is no VNNI."""

    threads: int = 1
    spin: bool = False
    level: Level = "all"
    dump: Path | None = None
    profile: Path | None = None
    memory_pattern: bool = True
    saturate: bool = True

    def build(self) -> ort.SessionOptions:
        built = ort.SessionOptions()
        built.intra_op_num_threads = self.threads
        built.inter_op_num_threads = 1
        built.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        built.graph_optimization_level = _LEVELS[self.level]
        built.log_severity_level = FATAL
        built.enable_mem_pattern = self.memory_pattern
        built.add_session_config_entry("session.intra_op.allow_spinning", "1" if self.spin else "0")
        built.add_session_config_entry("session.x64quantprecision", "0" if self.saturate else "1")
        if self.dump is not None:
            built.optimized_model_filepath = str(self.dump)
        if self.profile is not None:
            built.enable_profiling = True
            built.profile_file_prefix = str(self.profile)
        return built


class Session:
    """A model ready to run. Create it with `open_session`."""

    def __init__(self, raw: ort.InferenceSession) -> None:
        self.raw = raw
        self.inputs = tuple(node.name for node in raw.get_inputs())
        self.metadata: dict[str, str] = dict(raw.get_modelmeta().custom_metadata_map)
        self.outputs = tuple(node.name for node in raw.get_outputs())
        self.threads = int(raw.get_session_options().intra_op_num_threads)

    def run(self, feed: Feed, outputs: Sequence[str] | None = None) -> list[Array]:
        """The outputs (all, or those named) for one feed. Raises `DataError` if the runtime refuses it."""
        try:
            found: list[Array] = self.raw.run(list(outputs) if outputs is not None else None, dict(feed))
        except _REFUSALS as error:
            raise DataError(f"ONNX Runtime cannot run the model on this input: {first_line(error)}") from error
        return found

    def accepts(self, feed: Feed) -> bool:
        """Whether the runtime can run the model on `feed`."""
        try:
            self.run(feed)
        except DataError:
            return False
        return True


class Remembering(Session):
    """A session that answers the same input a second time from memory, of which it uses `_MOST_KEPT` bytes."""

    def __init__(self, raw: ort.InferenceSession) -> None:
        super().__init__(raw)
        self._known: dict[bytes, list[Array]] = {}
        self._bytes = 0

    def run(self, feed: Feed, outputs: Sequence[str] | None = None) -> list[Array]:
        key = _digest(feed, outputs)
        if key not in self._known:
            found = super().run(feed, outputs)
            size = sum(array.nbytes for array in found)
            if self._bytes + size > _MOST_KEPT:
                return found
            self._known[key], self._bytes = found, self._bytes + size
        return self._known[key]


def _digest(feed: Feed, outputs: Sequence[str] | None) -> bytes:
    digest = hashlib.blake2b(repr(outputs).encode())
    for name in sorted(feed):
        array = np.asarray(feed[name])
        digest.update(repr((name, array.dtype, array.shape)).encode())
        digest.update(repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes())
    return digest.digest()


def open_session(source: Source, options: Options | None = None) -> Session:
    """Open a model (in memory, serialized, or a file) on CPU. Raises `ModelError` if the runtime refuses it."""
    built = (options or Options()).build()
    with _loadable(source) as model:
        try:
            raw = ort.InferenceSession(model, built, providers=["CPUExecutionProvider"])
        except RUNTIME_FAILURES as error:
            raise ModelError(f"ONNX Runtime cannot load the model: {first_line(error)}") from error
    return Session(raw)


def first_line(error: Exception) -> str:
    """The first line of the runtime's message, without its bracketed error code."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.split(" : ", 2)[-1] if text.startswith("[ONNXRuntimeError]") else text


@contextlib.contextmanager
def _loadable(source: Source) -> Iterator[bytes | str]:
    if isinstance(source, (bytes, str, Path)):
        yield source if isinstance(source, bytes) else str(source)
        return
    from optimizer.model import io

    if io.fits_protobuf(source):
        yield io.to_bytes(source)
        return
    with tempfile.TemporaryDirectory(prefix="optimize-") as folder:
        path = Path(folder) / "model.onnx"
        io.save(source, path)
        yield str(path)
