"""Every constant becomes an initializer of the main graph, where quantization and pruning look for weights.

Cases:
1. `Constant` nodes with any attribute kind, in the main graph and in the bodies of If, Loop and Scan.
2. Initializers of such bodies. They move up, since a body may read what encloses it.
3. Kept as they are: a constant that a graph gives out as its output, and sparse values.
4. Initializers that are also graph inputs. Before IR version 4 every initializer had to be listed, and exporters kept
   the habit: where all of them are listed they are plain constants and leave the inputs. Where only some are, someone
   meant them as inputs with a default, and they stay.

A name that another branch uses too is replaced by a new one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optimizer.model.passes.edit import Editor, nodes, remove

_FIRST_WITHOUT_LISTING = 4


def lift_constants(model: ir.Model) -> int:
    """Turn Constant nodes and the initializers of subgraphs into initializers of the main graph."""
    editor = Editor(model)
    lifted = sum(_lift_node(editor, node) for node in nodes(model) if node.op_type == "Constant" and node.domain == "")
    for graph in model.graph.subgraphs():
        lifted += sum(_lift_initializer(editor, graph, value) for value in tuple(graph.initializers.values()))
    return lifted


def unlist_initializers(model: ir.Model) -> int:
    """Take initializers out of the graph inputs, where their being there says nothing (case 4)."""
    graph = model.graph
    listed = [value for value in graph.inputs if value.is_initializer()]
    if not listed or (model.ir_version >= _FIRST_WITHOUT_LISTING and len(listed) < len(graph.initializers)):
        return 0
    kept = [value for value in graph.inputs if not value.is_initializer()]
    graph.inputs.clear()
    graph.inputs.extend(kept)
    model.ir_version = max(model.ir_version, _FIRST_WITHOUT_LISTING)
    return len(listed)


def tensor_of(node: ir.Node) -> ir.TensorProtocol | None:
    """What a Constant node holds; None for a sparse value or a reference to a function's attribute."""
    if len(node.attributes) != 1:
        return None
    attribute = next(iter(node.attributes.values()))
    if attribute.is_ref() or attribute.name == "sparse_value":
        return None
    if attribute.name == "value":
        return attribute.as_tensor()
    if attribute.name in ("value_string", "value_strings"):
        texts = [attribute.as_string()] if attribute.name == "value_string" else list(attribute.as_strings())
        content = [text.encode() for text in texts]
        shape = ir.Shape(() if attribute.name == "value_string" else (len(texts),))
        return ir.StringTensor(content, shape=shape)
    dtype = np.int64 if attribute.name.startswith("value_int") else np.float32
    return ir.tensor(np.array(attribute.value, dtype=dtype))


def _lift_node(editor: Editor, node: ir.Node) -> int:
    out = node.outputs[0]
    tensor = tensor_of(node)
    if tensor is None or out.is_graph_output() or not out.name:
        return 0
    name = out.name if editor.names[out.name] == 1 else editor.fresh(out.name)
    _register(editor.model.graph, name, tensor, out)
    remove(node)
    return 1


def _lift_initializer(editor: Editor, graph: ir.Graph, value: ir.Value) -> int:
    if value.is_graph_output() or value.is_graph_input() or value.const_value is None or value.name is None:
        return 0
    name = value.name if editor.names[value.name] == 1 else editor.fresh(value.name)
    graph.initializers.pop(value.name)
    _register(editor.model.graph, name, value.const_value, value)
    return 1


def _register(graph: ir.Graph, name: str, tensor: ir.TensorProtocol, old: ir.Value) -> None:
    tensor.name = name
    value = ir.val(name, tensor.dtype, ir.Shape(tensor.shape.numpy()), const_value=tensor)
    graph.register_initializer(value)
    old.replace_all_uses_with(value)
