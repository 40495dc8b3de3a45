"""Who may import whom, from the ground up; and that the heavy and optional packages stay out of start-up."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "optimizer"

GROUND = {"errors", "report", "recipe"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "report": {"errors"},
    "recipe": {"errors"},
    "ops": {"errors"},
    "model": GROUND | {"ops"},
    "data": GROUND | {"ops", "model"},
    "runtime": GROUND | {"ops", "model"},
    "calibrate": GROUND | {"ops", "model", "data", "runtime"},
    **{
        name: GROUND | {"ops", "model", "data", "runtime", "calibrate"}
        for name in ("quantize", "prune", "sparse", "train", "bench")
    },
}
MAY_IMPORT["choice"] = MAY_IMPORT["prune"] | {"prune"}
MAY_IMPORT["pipeline"] = set(MAY_IMPORT) - {"pipeline"}
MAY_IMPORT["tune"] = MAY_IMPORT["pipeline"] | {"pipeline"}
MAY_IMPORT["cli"] = MAY_IMPORT["tune"] | {"tune"}
ONLY_IN = {
    "onnxruntime": "runtime",
    "typer": "cli",
    "rich": "cli",
    "google": "model",
    "optuna": "tune",
    "torch": "train",
}
LAZY = {"torch", "optuna", "matplotlib", "jinja2", "PIL"}

FILES = sorted(ROOT.rglob("*.py"))


def imports(tree: ast.AST, top_level_only: bool = False) -> Iterator[str]:
    for node in tree.body if top_level_only and isinstance(tree, ast.Module) else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_only_from_below(file: Path) -> None:
    layer = file.relative_to(ROOT).parts[0].removesuffix(".py")
    if layer in ("__init__", "__main__"):
        return
    tree = ast.parse(file.read_text())
    for name in imports(tree):
        parts = name.split(".")
        if parts[0] == "optimizer" and len(parts) > 1:
            assert parts[1] == layer or parts[1] in MAY_IMPORT[layer], f"{layer} imports {name}"
        home = ONLY_IN.get(parts[0])
        assert home in (None, layer), f"{name} belongs into {home}"
    for name in imports(tree, top_level_only=True):
        assert name.split(".")[0] not in LAZY, f"{name} is imported at the top of the file"


def test_only_ops_and_onnx_ir_are_known_to_ops() -> None:
    for file in (ROOT / "ops").rglob("*.py"):
        for name in imports(ast.parse(file.read_text())):
            assert not name.startswith("onnx.") and name != "onnx", f"{file.name} imports {name}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import optimizer, optimizer.cli, sys; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"numpy", "onnx", "onnx_ir", "onnxruntime", "torch", "optuna"}


def code_lines(file: Path) -> int:
    """Lines that are neither blank, nor comment, nor text that documents."""
    source = file.read_text()
    told = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    text = {line for one in told for line in range(one.lineno, (one.end_lineno or one.lineno) + 1)}
    lines = enumerate(source.splitlines(), 1)
    return sum(number not in text and not line.strip().startswith("#") and bool(line.strip()) for number, line in lines)


def test_what_can_be_removed_and_its_removal_stay_small_enough_to_read_in_an_hour() -> None:
    files = [file for part in ("ops/axes", "prune") for file in (ROOT / part).rglob("*.py")]
    assert 0 < sum(map(code_lines, files)) <= 1800
