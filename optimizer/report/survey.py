"""What `optimize inspect` found, as a page or as Markdown: groups, what they are worth, and what is frozen.

Made of its JSON document. Pictures show what is worth most: the scores of each group's labels from least to most, and
what half of a group costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from optimizer.errors import ConfigError
from optimizer.report import html, markdown
from optimizer.report.importance import pictures
from optimizer.report.rows import count
from optimizer.report.why import Listing

Document = dict[str, Any]

_SHOWN = 3
"""Tensors of a group that are named."""


def listings(found: Document) -> list[Listing]:
    """Groups by what they are worth, blocks, groups as they are, and the axes that each reason freezes."""
    return [*_worth(found["importance"]), *_groups(found["groups"]), *frozen(found["frozen"])]


def _worth(found: Document | None) -> Iterator[Listing]:
    if found is None:
        return
    parts = [f"{part:.1%} gone" for part in found["parts"]]
    yield Listing(
        f"{len(found['groups'])} groups by what half of each costs ({lead(found)})",
        ("group", "kind", "size", "MACs of half", *parts),
        [
            (g["name"], g["kind"], str(len(g["scores"])), count(g["macs"]), *(f"{cost:.2e}" for cost in g["costs"]))
            for g in found["groups"]
        ],
    )
    if found["blocks"]:
        rows: list[tuple[str, ...]] = [(block["name"], f"{block['change']:.2e}") for block in found["blocks"]]
        yield Listing(f"{len(rows)} blocks that could be skipped", ("block", "change of the outputs"), rows)


def lead(found: Document) -> str:
    """What the scores are."""
    return "noise at the outputs" if found["measured"] else f"by {found['criterion']}, without data"


def _groups(found: Sequence[Document]) -> Iterator[Listing]:
    rows: list[tuple[str, ...]] = [
        (g["name"], g["kind"], str(g["size"]), count(g["params"]), few(g["tensors"])) for g in found
    ]
    if rows:
        yield Listing(f"{len(rows)} groups", ("group", "kind", "size", "parameters", "ties together"), rows)


def frozen(found: Sequence[Document]) -> Iterator[Listing]:
    """The axes that each reason freezes, most first; nothing where there are none."""
    axes: dict[str, list[str]] = {}
    for one in found:
        axes.setdefault(one["reason"], []).append(f"{one['tensor']}.{one['axis']}")
    ranked = sorted(axes.items(), key=lambda item: -len(item[1]))
    if ranked:
        rows: list[tuple[str, ...]] = [(reason, str(len(names)), few(names)) for reason, names in ranked]
        yield Listing(f"{len(found)} axes are frozen", ("because", "axes", "of"), rows)


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _figures(found: Document) -> list[tuple[str, str]]:
    sizes = [("parameters", found["params"]), ("can shrink", found["prunable"])]
    sizes.append(("MACs (open sizes as 1)" if found["open"] else "MACs", found["macs"]))
    return [*((label, count(size)) for label, size in sizes), ("groups", str(len(found["groups"])))]


def page(found: Document) -> str:
    """A self-contained page. Raises `MissingExtra` without jinja2 or matplotlib."""
    about = found["importance"]
    return html.render(
        "survey.html.j2",
        name=Path(found["model"]).name,
        path=found["model"],
        lead=f"importance: {lead(about)}" if about else "",
        figures=_figures(found),
        pictures=pictures(about) if about else [],
        listings=listings(found),
    )


def text(found: Document) -> str:
    """The same tables as Markdown."""
    lines = [f"### inspect: {markdown.escape(found['model'])}", ""]
    lines += [f"- {label}: {size}" for label, size in _figures(found)] + [""]
    for listing in listings(found):
        lines += [f"**{markdown.escape(listing.title)}**", "", *markdown.table(listing.columns, listing.rows)]
    return "\n".join(lines)


FORMATS: dict[str, Callable[[Document], str]] = {".html": page, ".md": text}


def check(paths: Sequence[Path]) -> None:
    """Raise `ConfigError` where a report has another form."""
    for path in paths:
        if path.suffix not in FORMATS:
            raise ConfigError(f"--report {path}: of inspect there are .html and .md; the JSON document is --json")
