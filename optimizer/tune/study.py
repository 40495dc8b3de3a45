"""A study: trials that any number of workers take, none lost and none counted twice.

A trial is in one of these states; only what stands in its own line ever changes it, and each change is atomic in the
storage, so that of two workers that want the same change one gets it and the other is told::

    running   -> finished    its worker tells the values (COMPLETE) or why there are none (PRUNED)
    running   -> given back  (FAIL) its worker was interrupted, or is dead: whoever sees that enqueues the same values
    waiting   -> running     a worker asks for a trial; those that wait come first
    (new)     -> running     ... else a new one: the guesses in their order, then what the sampler finds

A worker that is dead (`heartbeat`) loses its trial. If it was alive after all, what it tells later is dropped, as its
trial is given back. A trial that `ATTEMPTS` workers died of is left alone and counts as finished: it might be what
kills the workers.

A study has exactly `total` finished trials in the end: a worker that finds itself with one too many gives it up.

The values of a new trial depend on the seed, its place among the trials and what was told before, and on nothing else:
a study that was interrupted and continued goes the way that it would have gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from optimizer.errors import ConfigError
from optimizer.tune.guesses import guesses
from optimizer.tune.heartbeat import ALIVE, Pace, Watch, heartbeats, owner
from optimizer.tune.sampler import sampler, suggest
from optimizer.tune.space import Row, Value, ask

ATTEMPTS = 3
RECORD, ATTEMPT, ORIGIN, SURPLUS = "record", "attempt", "origin", "surplus"
IDENTITY, WRITTEN = "identity", "written"
"""Names of attributes in the storage."""


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
        self.watch = Watch(self.pace.grace)
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
        place = self.place(trial)
        self.inner.sampler = sampler(self.seed, place, self.guesses)
        return ask(self.rows, lambda row: suggest(trial, row))

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
            if trial.state == TrialState.RUNNING and self.watch.sees_dead(trial.number, trial.user_attrs.get(ALIVE)):
                self.give_back(trial, died=True)

    def alive(self, trial: Any) -> AbstractContextManager[None]:
        """Heartbeats for a trial that this worker runs."""
        return heartbeats(trial, self.storage, self.pace.beat)

    def place(self, trial: Any) -> int:
        """Which trial of the study this is, where one that was given back and taken again is still the same."""
        if ORIGIN in trial.user_attrs:
            return int(trial.user_attrs[ORIGIN])
        before = [one.user_attrs for one in self.trials() if one.number < trial.number]
        return sum(ORIGIN not in attributes and SURPLUS not in attributes for attributes in before)

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
