"""Writing results to files by their suffix, whole or not at all, and to a CI run's summary page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from optimizer.errors import ConfigError, OutputError
from optimizer.report.document import document
from optimizer.report.html import html
from optimizer.report.junit import junit
from optimizer.report.markdown import markdown
from optimizer.report.records import Result

SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable in which GitHub Actions names the file that becomes a run's summary page."""
SUMMARY_BYTES = 2**20
"""What is above this size in all is not shown there."""


def _json(results: Sequence[Result]) -> str:
    return json.dumps(document(results), indent=2) + "\n"


_FORMATS: dict[str, Callable[[Sequence[Result]], str]] = {
    ".json": _json,
    ".md": markdown,
    ".xml": junit,
    ".html": html,
}


def check(paths: Sequence[Path]) -> None:
    """Raise `ConfigError` or `OutputError` unless reports can be written to `paths`; called before any work."""
    for path in paths:
        if path.suffix not in _FORMATS:
            raise ConfigError(f"--report {path}: the name must end in one of {', '.join(_FORMATS)}")
        if not path.parent.is_dir():
            raise OutputError(f"--report {path}: the folder {path.parent} does not exist; create it first")


def write(results: Sequence[Result], paths: Sequence[Path]) -> None:
    """Write one report to each of `paths`; an existing file is replaced. Raises `MissingExtra` or `OutputError`."""
    for path in paths:
        put(path, _FORMATS[path.suffix](results))


def put(path: Path, text: str) -> None:
    """Write one report; an existing file is replaced. Raises `OutputError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write the report {path}: {error.strerror or error}") from error


def summarize(results: Sequence[Result]) -> None:
    """Append the results to the CI run's summary page, if there is one and it has room."""
    path = os.environ.get(SUMMARY)
    if not path:
        return
    text = markdown(results) + "\n"
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            if file.tell() + len(text.encode()) <= SUMMARY_BYTES:
                file.write(text)
    except OSError as error:
        raise OutputError(f"cannot write the step summary {path} (${SUMMARY}): {error.strerror or error}") from error
