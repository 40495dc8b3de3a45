"""The configuration file: what it says, beside what its paths lie, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.errors import ConfigError
from optimizer.recipe import Bench, Preprocess, Prune, Quantize
from optimizer.recipe.config import Config, find

WHOLE = """
model = "net.onnx"
data = "data.npz"
samples = 50
dims = { batch = 8 }
[images]
size = [8, 9]
mean = [0.5]
std = [0.25]
[quantize]
max-drop = "1%"
[bench]
candidates = ["a.onnx", "b.onnx"]
save-baseline = "kept.json"
[[steps]]
do = "prune"
macs = 0.5
[[steps]]
do = "bench"
baseline = "kept.json"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_part_of_a_file_is_read() -> None:
    Path("optimize.toml").write_text(WHOLE)
    found = find()
    assert found.model == Path("net.onnx")
    assert found.candidates == (Path("a.onnx"), Path("b.onnx"))
    assert found.common == {
        "data": "data.npz", "samples": 50, "dims": (("batch", 8),),
        "images": Preprocess(size=(8, 9), mean=(0.5,), std=(0.25,)),
    }  # fmt: skip
    assert found.commands == {"quantize": {"max_drop": 0.01}, "bench": {"save_baseline": Path("kept.json")}}
    assert found.steps == (Prune(macs=0.5), Bench(baseline=Path("kept.json")))


def test_what_stands_under_run_is_for_that_command_alone(folder: Path) -> None:
    (folder / "sub").mkdir()
    Path("sub/mine.toml").write_text('data = "d.npz"\nseed = 2\n[run]\nmodel = "net.onnx"\nheld-back = 0.4\nseed = 3\n')
    found = find(Path("sub/mine.toml"))
    assert (found.of("prune").model, found.of("prune").common) == (None, {"data": "sub/d.npz", "seed": 2})
    assert found.of("run").model == Path("sub/net.onnx")
    assert found.of("run").common == {"data": "sub/d.npz", "seed": 3, "held_back": 0.4}


def test_paths_lie_beside_the_file(folder: Path) -> None:
    (folder / "sub").mkdir()
    Path("sub/mine.toml").write_text(WHOLE)
    found = find(Path("sub/mine.toml"))
    assert found.model == Path("sub/net.onnx")
    assert found.common["data"] == "sub/data.npz"
    assert found.steps[1] == Bench(baseline=Path("sub/kept.json"))


def test_a_function_that_yields_samples_lies_nowhere() -> None:
    Path("optimize.toml").write_text('data = "package.module:function"')
    assert find().common == {"data": "package.module:function"}


def test_a_table_of_the_project_serves_where_there_is_no_file_of_its_own() -> None:
    Path("pyproject.toml").write_text('[tool.optimize]\nmodel = "p.onnx"\n[[tool.optimize.steps]]\ndo = "quantize"')
    assert find().model == Path("p.onnx")
    assert find().steps == (Quantize(),)
    Path("optimize.toml").write_text('model = "o.onnx"')
    assert find().model == Path("o.onnx")


def test_without_a_file_nothing_is_said() -> None:
    assert find() == Config()
    Path("pyproject.toml").write_text("[tool.other]\nmodel = 1")
    assert find() == Config()


WRONG = {
    "no TOML": ("model = ", "optimize.toml: not TOML"),
    "no UTF-8": (b"\xff", "optimize.toml: cannot be read as a configuration: it is not UTF-8"),
    "an unknown key": ('modell = "a.onnx"', "unknown key 'modell'; the nearest there is 'model'"),
    "an unknown option": ("[quantize]\nmax-dorp = 0.1", "quantize: unknown key 'max-dorp'; the nearest"),
    "an unknown image option": ("[images]\nmeen = [0.5]", "images: unknown key 'meen'; the nearest there is 'mean'"),
    "a command that is no table": ("quantize = true", "quantize must be a table of options, not True"),
    "a step where options stand": ("[[prune]]\nmacs = 0.5", r"steps stand under \[\[steps\]\]"),
    "a size of text": ('dims = { batch = "8" }', "dims.batch must be a whole number, not '8'"),
    "one size": ("[images]\nsize = [8]", "images: size must have 2 values, not 1"),
    "a path that is none": ("model = 1", "model must be a path, not 1"),
    "an unknown key for run": ('[run]\nmode = "static"', "run: unknown key 'mode'; the nearest there is 'model'"),
    "a wrong step": ('[[steps]]\ndo = "prune"', r"step 1 \(prune\): give one target"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_configuration_is_refused_in_one_line_that_names_the_file(kind: str) -> None:
    source, told = WRONG[kind]
    Path("optimize.toml").write_bytes(source if isinstance(source, bytes) else source.encode())
    with pytest.raises(ConfigError, match=told) as found:
        find()
    assert str(found.value).startswith("optimize.toml: ")
    assert len(str(found.value).splitlines()) == 1


def test_a_file_that_is_named_must_be_there_and_say_something() -> None:
    with pytest.raises(ConfigError, match=r"absent.toml: cannot be read as a configuration: No such file"):
        find(Path("absent.toml"))
    Path("pyproject.toml").write_text("")
    with pytest.raises(ConfigError, match=r"pyproject.toml: has no table \[tool.optimize\]"):
        find(Path("pyproject.toml"))
