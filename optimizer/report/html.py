"""Results as one self-contained HTML page: no scripts, no fonts or images from elsewhere, light and dark.

jinja2 escapes everything that comes from outside; only the pictures, which are made here, go in as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optimizer.errors import MissingExtra
from optimizer.report import rows, why
from optimizer.report.pictures import pictures
from optimizer.report.records import Result
from optimizer.report.tiles import tiles

FOLDER = Path(__file__).parent
"""Where the templates are."""


def html(results: Sequence[Result]) -> str:
    """The page of one or more results. Raises `MissingExtra` without jinja2 or matplotlib."""
    return render(
        "page.html.j2",
        sections=[
            {
                "result": result,
                "before": Path(result.input).name,
                "after": Path(result.output).name if result.output else "nothing written",
                "tiles": tiles(result),
                "rows": rows.rows(result),
                "verdict": rows.verdict(result.latency_ms) if result.latency_ms else None,
                "pictures": pictures(result, f"p{number}"),
                "listings": why.listings(result),
            }
            for number, result in enumerate(results)
        ],
        machine=rows.machine(results[0].machine),
    )


def render(template: str, **content: object) -> str:
    """A template filled in. Raises `MissingExtra` without jinja2."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("jinja2", "report") from error
    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.get_template(template).render(content)
