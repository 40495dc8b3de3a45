"""The files for CI systems: they parse, and the action's script hands every input on as one argument."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
KIT = (
    ".github/actions/bench/action.yml",
    ".github/examples/bench.yml",
    ".github/examples/bench-comment.yml",
    ".pre-commit-hooks.yaml",
)


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def steps(action: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in action["runs"]["steps"]}


def arguments(folder: Path, **inputs: str) -> list[str]:
    """What the action's script gives to `optimize`."""
    action = load(KIT[0])
    step = steps(action)["Benchmark"]
    stub = folder / "optimize"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    given = {name: str(entry.get("default", "")) for name, entry in action["inputs"].items()} | inputs
    environment = {
        key: given[value.removeprefix("${{ inputs.").removesuffix(" }}")] for key, value in step["env"].items()
    }
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step["run"]],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**os.environ, **environment, "PATH": path},
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", KIT)
def test_the_file_parses(name: str) -> None:
    assert load(name)


def test_every_input_is_one_argument(tmp_path: Path) -> None:
    found = arguments(
        tmp_path,
        baseline="base/a b.onnx",
        candidate="$(touch evil).onnx",
        data="d.npz",
        inconclusive="pass",
        **{"fail-if": "latency > 1.05x\n\ndrop > 1%\n", "arguments": "--threads=2\n"},
    )
    assert found[:3] == ["bench", "base/a b.onnx", "$(touch evil).onnx"]
    assert found[3:10] == ["--data", "d.npz", "--fail-if", "latency > 1.05x", "--fail-if", "drop > 1%", "--threads=2"]
    assert found[-2:] == ["--inconclusive", "pass"]
    assert found.count("--report") == 4
    assert not (tmp_path / "evil").exists()


def test_an_earlier_run_can_be_the_baseline(tmp_path: Path) -> None:
    found = arguments(tmp_path, baseline="kept.json", candidate="b.onnx")
    assert found[:4] == ["bench", "b.onnx", "--baseline", "kept.json"]
    assert "--data" not in found


def test_without_models_the_configuration_names_them_and_sets_the_options(tmp_path: Path) -> None:
    found = arguments(tmp_path)
    assert found[:2] == ["bench", "--report"]
    assert "--inconclusive" not in found


def test_no_input_is_pasted_into_a_script() -> None:
    for step in load(KIT[0])["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_strangers_code_gets_no_token_that_can_write() -> None:
    assert load(KIT[1])["permissions"] == {"contents": "read"}
    comment = (ROOT / KIT[2]).read_text()
    assert "checkout" not in comment
