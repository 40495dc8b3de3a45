"""Random graphs of the ops that have axis rules: images with channels, sequences with heads, and ways between them.

A graph starts from one image input; each step draws a recipe, which writes ONNX text, and one step is a row of the rule
table (`table_recipes`). Half of the graphs have an open batch size, whose Reshapes copy it, infer it, or compute it.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from optimizer.model import shapes
from tests.ops.examples import MS, Example
from tests.prune import image_recipes, sequence_recipes  # noqa: F401 (register their recipes)
from tests.prune.graph_builder import OPSET, RECIPES, Builder, Recipe
from tests.prune.table_recipes import row as add_row

__all__ = ["OPSET", "RECIPES", "Recipe", "graph"]


def graph(seed: int, steps: int = 5, recipes: list[Recipe] | None = None, row: Example | None = None) -> ir.Model:
    """A model with inferred shapes; the same for the same seed. All recipes take part unless some are given.

    `row` is an example of the rule table that takes part besides.
    """
    recipes = recipes or RECIPES
    b = Builder(seed)
    image_recipes.plain_conv(b)
    for step in range(steps):
        if row is not None and step == steps // 2:
            add_row(b, row)
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
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {b.opset}, "{MS}" : 1]> {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in b.constants.items())
    model = ir.from_proto(proto)
    assert shapes.infer(model) is None
    return model
