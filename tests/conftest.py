"""A machine that does other things too: Hypothesis without deadlines and with the same examples in every run, and one
thread for numpy, as commands have it, since several test processes run side by side.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("steady")

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
