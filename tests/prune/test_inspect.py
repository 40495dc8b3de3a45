"""`optimize inspect` as an API call: groups, frozen axes, JSON."""

from __future__ import annotations

import json
from pathlib import Path

from optimizer.model import io
from optimizer.pipeline.inspect import inspect
from tests.prune.test_groups import TWO_CONVS, model


def test_inspection_lists_groups_and_frozen_axes(tmp_path: Path) -> None:
    io.save(model(TWO_CONVS, w=(4, 3, 3, 3), b=(4,), v=(5, 4, 1, 1)), tmp_path / "m.onnx")
    found = inspect(tmp_path / "m.onnx")
    (group,) = found.groups
    assert (group.size, group.params, set(group.tensors)) == (4, 108 + 4 + 20, {"w.0", "b.0", "v.1"})
    assert found.params == found.prunable == 132
    assert {(f.tensor, f.axis): f.reason for f in found.frozen} == {
        ("w", 1): "graph input 'x'",
        ("v", 0): "graph output 'y'",
    }
    document = json.loads(json.dumps(found.to_json()))
    assert document["schema_version"] == 1
    assert document["frozen"][0].keys() == {"tensor", "axis", "reason"}
