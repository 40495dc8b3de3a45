"""What training frees it gets again without asking the system."""

from __future__ import annotations

import platform
import resource

import numpy as np
import pytest

from optimizer.train import memory

SIZE, TIMES = 64 * 2**20, 8
LEAST = TIMES * (SIZE // 2**21 - 1)
"""Faults that new memory takes at least: it comes in pages of 2 MB where the system has some."""


def faults() -> int:
    """Pages that the system had to give while large arrays came and went."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TIMES):
        np.ones(SIZE, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_freed_memory_is_kept_while_it_is_held_and_given_back_afterwards() -> None:
    usual = faults()
    with memory.held():
        faults()
        assert faults() < min(usual, LEAST) / 4
    assert faults() >= LEAST
