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


def load(path: Path | str) -> ir.Model:
    """Read the ONNX model at `path`. Raises `ModelError` with one line on what is wrong and what to do."""
    file = Path(path)
    proto = _parse(file, _read(file))
    folder = file.resolve().parent
    validate.tensors(proto, folder)
    validate.graph(proto)
    try:
        model = ir.from_proto(proto)
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise ModelError(f"{file}: the graph cannot be read: {error}") from error
    ir.external_data.set_base_dir(model.graph, folder)
    return model


def load_bytes(data: bytes) -> ir.Model:
    """A model from its serialized form (self-contained: no external data)."""
    return ir.from_proto(_parse(Path("<bytes>"), data))


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The model as protobuf, with all tensors embedded."""
    if any(isinstance(tensor, ir.ExternalTensor) for tensor in _tensors(model)):
        model = model.clone()
        ir.external_data.load_to_model(model)
    return ir.to_proto(model)


def to_bytes(model: ir.Model) -> bytes:
    """The model in one self-contained, deterministic byte string. The model must fit (`fits_protobuf`)."""
    return _serialize(to_proto(model))


def fits_protobuf(model: ir.Model) -> bool:
    """Whether the model can be serialized with its tensors embedded."""
    return sum(tensor.nbytes for tensor in _tensors(model)) + _MARGIN < PROTOBUF_LIMIT


def size(path: Path | str) -> int:
    """Bytes on disk of the model at `path`, external data included."""
    file = Path(path)
    proto = onnx.load(str(file), load_external_data=False)
    sidecars = set(validate.external_locations(proto))
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


def _parse(file: Path, data: bytes) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{file}: not an ONNX model, or a truncated one (protobuf does not parse)") from error
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(f"{file}: not an ONNX model (no graph or no opset in it)")
    return proto


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    yield attribute.as_tensor()


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
