"""The command line: arguments -> API call -> display. The only package with typer and rich."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script; everything else is imported from here on."""
    from optimizer.cli.app import run

    run()
