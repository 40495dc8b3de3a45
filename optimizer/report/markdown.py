"""Results as Markdown, for files, pull requests and a CI run's summary page.

All text from outside (names of files, nodes, tensors) is escaped: a model must not be able to write markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from optimizer.report import rows, why
from optimizer.report.records import Result

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@])")
_MARKS = {"passed": "✅", "missed": "❌", "inconclusive": "⚠️"}


def markdown(results: Sequence[Result]) -> str:
    """The document of one or more results."""
    parts = [line for result in results for line in _result(result)]
    return "\n".join([*parts, f"<sub>{escape(rows.machine(results[0].machine))}</sub>", ""])


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(columns: Sequence[str], body: Iterable[Sequence[str]]) -> Iterator[str]:
    """A pipe table; numbers stand right, the first column left."""
    yield f"| {' | '.join(escape(column) for column in columns)} |"
    yield f"|:--{'|--:' * (len(columns) - 1)}|"
    yield from (f"| {' | '.join(escape(cell) for cell in row)} |" for row in body)
    yield ""


def _result(result: Result) -> Iterator[str]:
    yield f"### {escape(result.command)}: {escape(result.input)} → {escape(result.output or 'nothing written')}"
    yield ""
    if result.latency_ms is not None:
        yield f"**{escape(rows.verdict(result.latency_ms))}**"
        yield ""
    yield from table(("", "before", "after", "change"), rows.rows(result))
    for gate in result.gates:
        yield f"- {_MARKS[gate.status]} {gate.status}: `{gate.condition.replace('`', '')}`: {escape(gate.message)}"
    yield from (f"- ⚠️ {escape(warning)}" for warning in result.warnings)
    yield ""
    for listing in why.listings(result):
        yield f"<details><summary>{html.escape(listing.title)}</summary>"
        yield ""
        yield from table(listing.columns, listing.rows)
        yield "</details>"
        yield ""
