"""Reading a model file that may be damaged or hostile, and writing one so that no half-written file can remain.

Reading: the protobuf is parsed without its external data; every external tensor must name a regular file inside the
model's own folder and lie within that file; every embedded tensor must hold exactly the bytes its shape declares;
then `validate` checks the graph. Nothing is unpickled and nothing is run.

Writing: the serialized model goes to a temporary file in the target folder, is fsynced and renamed over the target;
its external data (only above protobuf's 2 GB limit) likewise, and before it. A failure removes what was begun.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from optimizer.errors import ModelError, OutputError
from optimizer.model import validate

PROTOBUF_LIMIT = 2**31 - 1
_MARGIN = 64 * 2**20
"""Room left for everything that is not a tensor when deciding whether a model fits one protobuf."""
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError, OverflowError)
"""What onnx_ir raises for protobufs that hold nonsense; texts that are no UTF-8 are a ValueError."""


def load(path: Path | str) -> ir.Model:
    """Read the ONNX model at `path`. Raises `ModelError` with one line on what is wrong and what to do."""
    file = Path(path)
    return _checked(_parse(str(file), _read(file)), str(file), file)


def load_bytes(data: bytes) -> ir.Model:
    """A model from its serialized form (self-contained: no external data). Raises `ModelError`."""
    return _checked(_parse("<bytes>", data), "<bytes>", None)


def _checked(proto: onnx.ModelProto, label: str, file: Path | None) -> ir.Model:
    try:
        is_sorted = validate.graph(proto)
        folder = validate.tensors(proto, file)
        model = ir.from_proto(proto)
        if not is_sorted:
            _sort(model)
    except ModelError as error:
        raise ModelError(f"{label}: {error}") from error
    except _UNREADABLE as error:
        raise ModelError(f"{label}: the graph cannot be read: {_first_line(error)}") from error
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, folder)
        for function in model.functions.values():
            ir.external_data.set_base_dir(function.graph, folder)
    _tell_apart(model)
    return model


def _sort(model: ir.Model) -> None:
    try:
        model.graph.sort()
        for function in model.functions.values():
            function.sort()
    except ValueError as error:
        raise ModelError("the nodes depend on each other in a circle") from error


def _tell_apart(model: ir.Model) -> None:
    """Rename values of bodies, so that a name means one value in the whole model, not only in its graph."""
    taken = {value.name for value in _defined(model.graph)}
    for graph in model.graph.subgraphs():
        for value in _defined(graph):
            if value.name in taken:
                value.name = _unused(value.name or "", taken)
            taken.add(value.name)


def _defined(graph: ir.Graph) -> list[ir.Value]:
    """The values that `graph` itself gives a name."""
    given = dict.fromkeys((*graph.inputs, *graph.initializers.values()))
    return [value for value in (*given, *(out for node in graph for out in node.outputs)) if value.name]


def _unused(stem: str, taken: set[str | None]) -> str:
    number = 1
    while f"{stem}_{number}" in taken:
        number += 1
    return f"{stem}_{number}"


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The model as protobuf, with all tensors embedded."""
    if any(isinstance(tensor, ir.ExternalTensor) for tensor in _tensors(model)):
        model = model.clone()
        ir.external_data.load_to_model(model)
        _embed(model)
    proto = ir.to_proto(model)
    _tell_once(proto.graph)
    return proto


def _tell_once(graph: onnx.GraphProto) -> None:
    """Drop what is told of initializers a second time: a tensor has its own type and shape."""
    tensors = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in tensors]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def to_bytes(model: ir.Model) -> bytes:
    """The model in one self-contained, deterministic byte string. The model must fit (`fits_protobuf`)."""
    return _serialize(to_proto(model))


def fits_protobuf(model: ir.Model) -> bool:
    """Whether the model can be serialized with its tensors embedded."""
    return sum(tensor.nbytes for tensor in _tensors(model)) + _MARGIN < PROTOBUF_LIMIT


def size(path: Path | str) -> int:
    """Bytes on disk of the model at `path`, external data included."""
    file = Path(path)
    sidecars = set(validate.external_locations(_parse(str(file), _read(file))))
    return file.stat().st_size + sum((file.parent / name).stat().st_size for name in sidecars)


def check_target(path: Path, force: bool) -> None:
    """Raise `OutputError` unless a model can be written to `path`; called before any work is done."""
    if path.exists() and not force:
        raise OutputError(f"{path} exists; use --force to overwrite it, or -o to write somewhere else")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; -o must name a file")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first, or choose another -o")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"the folder {path.parent} is not writable; choose another -o")


def save(model: ir.Model, path: Path | str, *, force: bool = False) -> int:
    """Write `model` to `path` atomically and return the bytes written. Raises `OutputError`."""
    file = Path(path)
    check_target(file, force)
    sidecar = file.with_name(file.name + ".data")
    try:
        with staged(file) as temporary:
            if fits_protobuf(model):
                temporary.write_bytes(to_bytes(model))
                _sync(temporary)
                return temporary.stat().st_size
            check_target(sidecar, force)
            return _save_large(model, temporary, sidecar)
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}") from error


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, renamed over it when the block ends well and removed when it does not."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        _sync(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _save_large(model: ir.Model, temporary: Path, sidecar: Path) -> int:
    with staged(sidecar) as data:
        copy = model.clone()
        _embed(copy)
        ir.external_data.unload_from_model(copy, temporary.parent, data.name, size_threshold_bytes=1024)
        proto = ir.to_proto(copy)
        validate.relocate(proto, sidecar.name)
        temporary.write_bytes(_serialize(proto))
        _sync(data)
        _sync(temporary)
        return temporary.stat().st_size + data.stat().st_size


def _serialize(proto: onnx.ModelProto) -> bytes:
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _read(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise ModelError(f"{file}: no such file" if not file.exists() else f"{file}: not a regular file")
        if (bytes_on_disk := file.stat().st_size) > PROTOBUF_LIMIT:
            raise ModelError(f"{file}: {bytes_on_disk} bytes is above protobuf's 2 GB limit; use external data")
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from error


def _parse(file: str, data: bytes) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{file}: not an ONNX model, or a truncated one (protobuf does not parse)") from error
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(f"{file}: not an ONNX model (no graph or no opset in it)")
    return proto


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in _graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
        for attribute in _tensor_attributes(graph):
            yield attribute.as_tensor()


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    yield from model.graphs()
    for function in model.functions.values():
        yield function.graph
        yield from function.subgraphs()


def _tensor_attributes(graph: ir.Graph) -> Iterator[ir.Attr]:
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                yield attribute


def _embed(model: ir.Model) -> None:
    """Read the external tensors in node attributes; those of initializers stay where they are."""
    for graph in _graphs(model):
        for node in graph:
            for name, attribute in tuple(node.attributes.items()):
                if attribute.type != ir.AttributeType.TENSOR or attribute.is_ref():
                    continue
                tensor = attribute.as_tensor()
                if isinstance(tensor, ir.ExternalTensor):
                    node.attributes[name] = ir.AttrTensor(name, ir.tensor(tensor.numpy(), dtype=tensor.dtype))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
