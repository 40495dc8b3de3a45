"""Hypothesis for a machine that does other things too: no deadlines, and the same examples in every run."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("steady")
