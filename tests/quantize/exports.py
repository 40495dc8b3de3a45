"""Small models of the kinds that people ship, exported by torch: `python -m tests.quantize.exports FOLDER`.

Each has the awkward parts of its kind: masks of int64, exporters of two generations, several inputs, dynamic axes,
float16, external data, detection heads with NonMaxSuppression, models that are half quantized already. The weights are
random (seeded) with batch norms that are not trivial. Needs torchvision and onnxscript.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper, version_converter
from torch import Tensor, nn

from tests.quantize import kinds

_OPSETS = (9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 21, 22)


def _ready(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def _ids(*shape: int, top: int = 1000) -> Tensor:
    return torch.randint(0, top, shape)


def _kinds() -> Iterator[tuple[str, Callable[[], nn.Module], tuple[Tensor, ...], list[str], dict[str, dict[int, str]]]]:
    """Name, model, inputs, their names, dynamic axes."""
    image, batch = torch.randn(1, 3, 96, 96), {0: "batch"}
    text = {0: "batch", 1: "length"}
    yield "unet", kinds.Unet, (image,), ["image"], {"image": {0: "batch", 2: "height", 3: "width"}}
    yield "yolo", kinds.Yolo, (image,), ["images"], {}
    yield "yolo_nms", kinds.YoloNms, (image,), ["images"], {}
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ones = torch.ones(1, 32, dtype=torch.int64)
    yield "bert", kinds.Bert, (_ids(1, 32), ones, 0 * ones), names, dict.fromkeys(names, text)
    yield "gpt", kinds.Gpt, (_ids(1, 8), torch.randn(2, 2, 1, 4, 16, 32)), ["input_ids", "past"], {
        "input_ids": text, "past": {2: "batch", 4: "past_length"}}  # fmt: skip
    yield "llama", kinds.Llama, (_ids(1, 32),), ["input_ids"], {"input_ids": text}
    yield "whisper", kinds.Whisper, (torch.randn(1, 80, 200),), ["mel"], {"mel": batch}
    inputs = (_ids(2, 1), _ids(2, 1), torch.randn(2, 13), torch.randn(2, 3, 32, 32))
    names = ["user", "item", "numbers", "image"]
    yield "recommender", kinds.Recommender, inputs, names, dict.fromkeys(names, batch)
    yield "recurrent", kinds.Recurrent, (torch.randn(1, 40, 100),), ["x"], {"x": {0: "batch", 2: "frames"}}
    yield "convnet", kinds.Convnet, (image,), ["x"], {"x": batch}
    yield "volume", kinds.Volume, (torch.randn(1, 1, 16, 16, 16),), ["x"], {"x": batch}


def main(folder: Path) -> None:
    """Write every model into `folder`."""
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name, kind, inputs, names, axes in _kinds():
        torch.manual_seed(0)
        model = _ready(kind())
        legacy, dynamo = folder / f"{name}.onnx", folder / f"{name}.dynamo.onnx"
        torch.onnx.export(model, inputs, legacy, dynamo=False, opset_version=17, input_names=names, dynamic_axes=axes)
        print(legacy, flush=True)
        try:
            torch.onnx.export(model, inputs, dynamo=True, input_names=names, verbose=False).save(dynamo)  # type: ignore[union-attr]
            print(dynamo, flush=True)
        except RuntimeError as error:
            print(f"{dynamo}: {str(error).splitlines()[0]}", flush=True)
    _opsets(folder)
    _half(folder)
    _outside(folder)
    _partly(folder)


def _opsets(folder: Path) -> None:
    torch.manual_seed(0)
    model, image = _ready(kinds.Convnet()), torch.randn(1, 3, 96, 96)
    for opset in _OPSETS:
        path = folder / f"convnet.opset{opset}.onnx"
        try:
            torch.onnx.export(model, (image,), path, dynamo=False, opset_version=min(max(opset, 9), 20),
                              input_names=["x"], dynamic_axes={"x": {0: "batch"}})  # fmt: skip
            if opset > 20:
                onnx.save(version_converter.convert_version(onnx.load(path), opset), path)
            print(path, flush=True)
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            path.unlink(missing_ok=True)
            print(f"{path}: {str(error).splitlines()[0]}", flush=True)


def _half(folder: Path) -> None:
    for name, model, inputs, names in (
        ("convnet", kinds.Convnet(), (torch.randn(1, 3, 96, 96).half(),), ["x"]),
        ("whisper", kinds.Whisper(), (torch.randn(1, 80, 200).half(),), ["mel"]),
    ):
        path = folder / f"{name}.half.onnx"
        torch.onnx.export(_ready(model).half(), inputs, path, dynamo=False, opset_version=17, input_names=names)
        print(path, flush=True)


def _outside(folder: Path) -> None:
    """Weights in a file of their own."""
    path = folder / "bert.outside.onnx"
    onnx.save(onnx.load(folder / "bert.onnx"), path, save_as_external_data=True, location="bert.outside.data",
              size_threshold=64)  # fmt: skip
    print(path, flush=True)


def _partly(folder: Path) -> None:
    """One weight of the network is int8 behind a DequantizeLinear already."""
    path, model = folder / "convnet.partly.onnx", onnx.load(folder / "convnet.onnx")
    graph = model.graph
    weight = next(tensor for tensor in graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] > 16)
    array = numpy_helper.to_array(weight)
    scale = np.float32(np.abs(array).max() / 127)
    name = weight.name
    graph.initializer.remove(weight)
    graph.initializer.append(numpy_helper.from_array(np.rint(array / scale).astype(np.int8), f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), f"{name}_zero"))
    node = onnx.helper.make_node("DequantizeLinear", [f"{name}_int8", f"{name}_scale", f"{name}_zero"], [name])
    graph.node.insert(0, node)
    onnx.save(model, path)
    print(path, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
