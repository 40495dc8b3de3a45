"""A study: trials that any number of workers take, none lost and none counted twice.

A trial is in one of these states; only what stands in its own line ever changes it, and each change is atomic in the
storage, so that of two workers that want the same change one gets it and the other is told::

    running   -> finished    its worker tells the values (COMPLETE) or why there are none (PRUNED)
    running   -> given back  (FAIL) its worker was interrupted, or is dead: whoever sees that enqueues the same values
    waiting   -> running     a worker asks for a trial; those that wait come first
    (new)     -> running     ... else a new one: the guesses in their order, then what the sampler finds

*Dead* is a worker whose heartbeat has not changed for `Pace.grace` seconds as the observer's own clock has it (clocks
are never compared), or whose process is gone from this machine. If it was alive after all, what it tells later is
dropped, since its trial is given back. A trial that `ATTEMPTS` workers died of is left alone and counts as
finished, as it might be what kills the workers.

A study has exactly `total` finished trials in the end: a worker that finds itself with one too many gives it up.

The values of a new trial depend on the seed, its place among the trials and what was told before, and on nothing else:
a study that was interrupted and continued goes the way that it would have gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimizer.errors import ConfigError
from optimizer.tune.guesses import guesses
from optimizer.tune.space import Choice, Row, Value, ask

ATTEMPTS = 3
RECORD, ALIVE, ATTEMPT, ORIGIN, SURPLUS = "record", "alive", "attempt", "origin", "surplus"
IDENTITY, WRITTEN = "identity", "written"
"""Names of attributes in the storage."""


@dataclasses.dataclass(frozen=True)
class Pace:
    """Seconds between heartbeats, without one until a worker counts as dead, and between looks for work."""

    beat: float = 15.0
    grace: float = 60.0
    look: float = 2.0


class Study:
    """One search in a storage. `identity` is what must be equal for workers to search together."""

    def __init__(
        self,
        storage: Any,
        name: str,
        rows: Sequence[Row],
        seed: int,
        values: int,
        identity: Mapping[str, object],
        pace: Pace | None = None,
    ) -> None:
        import optuna

        self.storage = storage
        self.rows, self.seed, self.pace = tuple(rows), seed, pace or Pace()
        self.guesses = guesses(rows)
        small = [optuna.study.StudyDirection.MINIMIZE] * values
        self.inner = optuna.create_study(storage=storage, study_name=name, directions=small, load_if_exists=True)
        self._seen: dict[int, tuple[Any, float]] = {}
        self._agree(name, identity)

    def _agree(self, name: str, identity: Mapping[str, object]) -> None:
        known = self.inner.user_attrs.get(IDENTITY)
        if known is None:
            self.inner.set_user_attr(IDENTITY, dict(identity))
            return
        for key, value in identity.items():
            if known.get(key) != value:
                raise ConfigError(
                    f"the study {name!r} was begun with another {key} ({known.get(key)}, now {value}): "
                    "give another --study (or --output), or delete the study"
                )

    def trials(self) -> list[Any]:
        """All trials, by number."""
        found: list[Any] = self.inner.get_trials(deepcopy=False)
        return found

    def records(self) -> list[dict[str, Any]]:
        """What finished trials have found, by number."""
        return [trial.user_attrs.get(RECORD, {}) for trial in self.trials() if self._finished(trial)]

    def elsewhere(self, prefix: str) -> list[dict[str, Any]]:
        """What studies of other kinds of machines (names that begin with `prefix`) have found, but for times."""
        import optuna

        storage, own = self.storage, self.inner.study_name
        identity = self.inner.user_attrs[IDENTITY]
        names = [name for name in optuna.get_all_study_names(storage) if name.startswith(prefix) and name != own]
        others = [optuna.load_study(study_name=name, storage=storage) for name in names]
        records = [
            trial.user_attrs[RECORD]
            for study in others
            if study.user_attrs.get(IDENTITY) == identity
            for trial in study.get_trials(deepcopy=False)
            if self._finished(trial) and RECORD in trial.user_attrs
        ]
        return [{name: value for name, value in record.items() if name != "time"} for record in records]

    def wrote(self, *paths: Path) -> None:
        """Remember that this study made the files at `paths`."""
        self.inner.set_user_attr(WRITTEN, [_hash(path) for path in paths])

    def has_written(self, path: Path) -> bool:
        """Whether the file at `path` is one that this study made."""
        return path.is_file() and _hash(path) in self.inner.user_attrs.get(WRITTEN, [])

    def finished(self) -> int:
        """How many trials are finished."""
        return sum(self._finished(trial) for trial in self.trials())

    def take(self, total: int | None) -> Any | None:
        """A trial to run; None if all that is left is being run by others, or nothing is."""
        from optuna.trial import TrialState

        self.recover()
        trials = self.trials()
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        begun = sum(trial.state == TrialState.RUNNING or self._finished(trial) for trial in trials)
        if total is not None and begun >= total and not waiting:
            return None
        trial = self.inner.ask()
        trial.set_user_attr(ALIVE, [owner(), 0])
        if total is not None and ORIGIN not in trial.user_attrs and self._surplus(trial.number, total):
            trial.set_user_attr(SURPLUS, True)
            self._tell(trial.number, TrialState.FAIL)
            return None
        return trial

    def values(self, trial: Any) -> dict[str, Value]:
        """The values of a trial that was taken; those it had already if it was given back."""
        from optuna.samplers import TPESampler

        place = self.place(trial)
        seed = (self.seed * 1_000_003 + place) % 2**32
        guess = self.guesses[place] if place < len(self.guesses) else None
        self.inner.sampler = TPESampler(seed=seed) if guess is None else _fixed(guess)
        return ask(self.rows, lambda row: _suggest(trial, row))

    def finish(self, trial: Any, record: dict[str, Any], values: Sequence[float] | None, violation: float) -> bool:
        """Tell what a trial has found; `values` are None where there are none. False if it was given to another."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            trial.set_constraint("drop", violation)
            trial.set_user_attr(RECORD, record)
        except UpdateFinishedTrialError:
            return False
        return self._tell(trial.number, TrialState.PRUNED if values is None else TrialState.COMPLETE, values)

    def give_back(self, trial: Any, *, died: bool) -> None:
        """Leave a running trial to whoever comes next, unless too many workers died of it."""
        from optuna.trial import TrialState

        attempt = trial.user_attrs.get(ATTEMPT, 1) + died
        if self._tell(trial.number, TrialState.FAIL) and attempt <= ATTEMPTS:
            self.inner.enqueue_trial(trial.params, user_attrs={ATTEMPT: attempt, ORIGIN: self.place(trial)})

    def recover(self) -> None:
        """Give back the trials of dead workers."""
        from optuna.trial import TrialState

        for trial in self.trials():
            if trial.state == TrialState.RUNNING and self._is_stale(trial):
                self.give_back(trial, died=True)

    @contextlib.contextmanager
    def alive(self, trial: Any) -> Iterator[None]:
        """Heartbeats for a trial that this worker runs."""
        from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

        stop = threading.Event()

        def beats() -> None:
            count = 0
            while not stop.wait(self.pace.beat):
                count += 1
                try:
                    trial.set_user_attr(ALIVE, [owner(), count])
                except UpdateFinishedTrialError:
                    return
                except StorageInternalError:  # the next one may get through
                    continue
                finally:
                    self.storage.remove_session()

        thread = threading.Thread(target=beats, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def place(self, trial: Any) -> int:
        """Which trial of the study this is, where one that was given back and taken again is still the same."""
        if ORIGIN in trial.user_attrs:
            return int(trial.user_attrs[ORIGIN])
        before = [one.user_attrs for one in self.trials() if one.number < trial.number]
        return sum(ORIGIN not in attributes and SURPLUS not in attributes for attributes in before)

    def _is_stale(self, trial: Any) -> bool:
        alive, now = trial.user_attrs.get(ALIVE), time.monotonic()
        seen = self._seen.get(trial.number)
        if seen is None or seen[0] != alive:
            seen = self._seen[trial.number] = alive, now
        return (alive is not None and gone(alive[0])) or now - seen[1] > self.pace.grace

    def _finished(self, trial: Any) -> bool:
        from optuna.trial import TrialState

        deadly = trial.state == TrialState.FAIL and trial.user_attrs.get(ATTEMPT, 1) >= ATTEMPTS
        return bool(deadly or trial.state in (TrialState.COMPLETE, TrialState.PRUNED))

    def _surplus(self, number: int, total: int) -> bool:
        from optuna.trial import TrialState

        before = [trial for trial in self.trials() if trial.number < number]
        return len([trial for trial in before if trial.state == TrialState.RUNNING or self._finished(trial)]) >= total

    def _tell(self, number: int, state: Any, values: Sequence[float] | None = None) -> bool:
        """Change a running trial's state; False if another worker did so before."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.inner.tell(number, values if values is None else list(values), state)
        except (ValueError, UpdateFinishedTrialError):
            return False
        return True


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _suggest(trial: Any, row: Row) -> Value:
    if isinstance(row.values, Choice):
        chosen: Value = trial.suggest_categorical(row.name, row.values.values)
        return chosen
    number: float = trial.suggest_float(
        row.name, row.values.low, row.values.high, step=row.values.step, log=row.values.log
    )
    return round(number, 6) if row.values.step is not None else number


def _fixed(params: dict[str, Value]) -> Any:
    """A sampler that knows one answer."""
    from optuna.samplers import BaseSampler

    class Fixed(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Value:
            return params[param_name]

    return Fixed()


def owner() -> str:
    """This process, so that others on the same machine can see whether it is there."""
    space = Path("/proc/self/ns/pid")
    return f"{platform.node()}:{space.readlink() if space.exists() else ''}:{os.getpid()}"


def gone(other: str) -> bool:
    """Whether the process `other` is known to have ended; False where it cannot be known."""
    place, _, number = other.rpartition(":")
    if os.name != "posix" or place != owner().rpartition(":")[0]:
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
