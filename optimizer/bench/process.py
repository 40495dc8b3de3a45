"""Starting measuring processes and talking to them.

Each gets an environment of random size: where the stack begins, and with it what shares a cache line, depends on it
(Mytkowicz et al., "Producing wrong data without doing anything obviously wrong!", 2009).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optimizer.bench.job import Job
from optimizer.errors import ModelError, OptimizeError, UserError
from optimizer.runtime.timing import Lane, Slot

_PADDING = 4096


def ask(job: Job) -> dict[str, Any]:
    """Run `job` in a fresh process and return its answer. Raises `UserError` with what the process had to say."""
    done = subprocess.run(
        _command(), input=job.to_text() + "\n", capture_output=True, text=True, env=_environment(job.seed), check=False
    )
    answer: dict[str, Any] = _answer(job, (done.stdout.splitlines() or [""])[-1], done.returncode, done.stderr)
    return answer


@contextmanager
def serving(job: Job) -> Iterator[Lane]:
    """A process that holds the job's model; the lane runs its slots there."""
    with subprocess.Popen(
        _command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(job.seed)
    ) as process:
        try:
            _ask_line(job, process, job.to_text())
            yield lambda number: Slot(*_ask_line(job, process, str(number)))
        finally:
            process.communicate()


def _ask_line(job: Job, process: subprocess.Popen[str], line: str) -> Any:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    return _answer(job, answer, 0 if answer else process.wait(), "")


def _answer(job: Job, line: str, status: int, messages: str) -> Any:
    names = " and ".join(dict.fromkeys(model.model for model in job.models))
    if status < 0:
        raise ModelError(f"the process that ran {names} was ended by signal {-status}; was memory short?")
    answer = json.loads(line) if line else {}
    if isinstance(answer, dict) and "error" in answer:
        raise UserError(answer["error"])
    if status:
        raise OptimizeError(f"the process that ran {names} failed: {(messages.strip().splitlines() or ['?'])[-1]}")
    return answer


def _command() -> list[str]:
    return [sys.executable, "-m", "optimizer.bench.worker"]


def _environment(seed: int) -> dict[str, str]:
    padding = "x" * random.Random(seed).randrange(_PADDING)
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109 - the variable holds strings
    return {**os.environ, "PYTHONPATH": paths, "OPTIMIZE_PADDING": padding}
