"""All of a run's results as one JSON document.

It is the first (mostly only) result; where there are more candidates, `candidates` holds the results of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optimizer.report.records import Result, to_json


def document(results: Sequence[Result]) -> dict[str, Any]:
    """The document of one or more results."""
    first: dict[str, Any] = to_json(results[0])
    return first if len(results) == 1 else {**first, "candidates": [to_json(result) for result in results]}
