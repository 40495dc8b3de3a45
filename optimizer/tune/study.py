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
from optimizer.tune.space import Params, Row, Value, ask

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
        self._read: list[Any] = []
        """The trials when they were read last."""
        self._told: list[dict[str, Any]] = []
        """Records that this worker has told since."""
        self._places: dict[int, int] = {}
        self._others: dict[str, Any] = {}
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
        """All trials, by number, as the storage has them now."""
        self._read = self.inner.get_trials(deepcopy=False)
        self._told = []
        return self._read

    def records(self) -> list[dict[str, Any]]:
        """What finished trials have found, by number."""
        self.trials()
        return self.known()

    def known(self) -> list[dict[str, Any]]:
        """The records, as far as this worker knows without asking: reading is what a database with many workers has
        most to do with."""
        return [trial.user_attrs.get(RECORD, {}) for trial in self._read if self._finished(trial)] + self._told

    def elsewhere(self, prefix: str) -> list[dict[str, Any]]:
        """What studies of other kinds of machines (names that begin with `prefix`) have found, but for times."""
        import optuna

        names = optuna.get_all_study_names(self.storage)
        for name in names:
            if name.startswith(prefix) and name != self.inner.study_name and name not in self._others:
                self._others[name] = optuna.load_study(study_name=name, storage=self.storage)
        identity = self.inner.user_attrs[IDENTITY]
        records = [
            trial.user_attrs[RECORD]
            for study in self._others.values()
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
        """A trial to run; None if all that is left is being run by others, or nothing is (`is_done`)."""
        from optuna.trial import TrialState

        self.recover()
        waiting = any(trial.state == TrialState.WAITING for trial in self._read)
        if total is not None and len(self._begun(self._read)) >= total and not waiting:
            return None
        trial = self.inner.ask()
        trial.set_user_attr(ALIVE, [owner(), 0])
        before = [one for one in self.trials() if one.number < trial.number]
        if total is not None and ORIGIN not in trial.user_attrs and len(self._begun(before)) >= total:
            trial.set_user_attr(SURPLUS, True)
            self._tell(trial.number, TrialState.FAIL)
            return None
        self._places[trial.number] = _place(trial, before)
        return trial

    def is_done(self, total: int | None) -> bool:
        """Whether the trials that were read last are all that there are to be."""
        return total is not None and sum(map(self._finished, self._read)) >= total

    def values(self, trial: Any) -> dict[str, Value]:
        """The values of a trial that was taken; those it had already if it was given back."""
        place = self._places[trial.number]
        known = [record["params"] for record in self.known() if "params" in record]
        self.inner.sampler = sampler(self.seed, place, self.guesses, self.rows, self._best(), known)
        return ask(self.rows, lambda row: suggest(trial, row))

    def _best(self) -> Params | None:
        """The values of the trial that is best in the objective: the first of what is to be small."""
        from optuna.trial import TrialState

        done = [trial for trial in self._read if trial.state == TrialState.COMPLETE and RECORD in trial.user_attrs]
        best = min(done, key=lambda trial: (trial.values[0], trial.number), default=None)
        return None if best is None else dict(best.user_attrs[RECORD]["params"])

    def finish(self, trial: Any, record: dict[str, Any], values: Sequence[float] | None, violation: float) -> bool:
        """Tell what a trial has found; `values` are None where there are none. False if it was given to another."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            trial.set_constraint("drop", violation)
            trial.set_user_attr(RECORD, record)
        except UpdateFinishedTrialError:
            return False
        told = self._tell(trial.number, TrialState.PRUNED if values is None else TrialState.COMPLETE, values)
        self._told += [record] if told else []
        return told

    def give_back(self, trial: Any, *, died: bool) -> None:
        """Leave a running trial to whoever comes next, unless too many workers died of it."""
        from optuna.trial import TrialState

        attempt = trial.user_attrs.get(ATTEMPT, 1) + died
        if self._tell(trial.number, TrialState.FAIL) and attempt <= ATTEMPTS:
            self.inner.enqueue_trial(trial.params, user_attrs={ATTEMPT: attempt, ORIGIN: self.place(trial)})

    def recover(self) -> None:
        """Give back the trials of dead workers."""
        from optuna.trial import TrialState

        dead = [
            trial
            for trial in self.trials()
            if trial.state == TrialState.RUNNING and self.watch.sees_dead(trial.number, trial.user_attrs.get(ALIVE))
        ]
        for trial in dead:
            self.give_back(trial, died=True)
        if dead:
            self.trials()

    def alive(self, trial: Any) -> AbstractContextManager[None]:
        """Heartbeats for a trial that this worker runs."""
        return heartbeats(trial, self.storage, self.pace.beat)

    def place(self, trial: Any) -> int:
        """Which trial of the study this is, where one that was given back and taken again is still the same."""
        return _place(trial, [one for one in self._read if one.number < trial.number])

    def _finished(self, trial: Any) -> bool:
        from optuna.trial import TrialState

        deadly = trial.state == TrialState.FAIL and trial.user_attrs.get(ATTEMPT, 1) >= ATTEMPTS
        return bool(deadly or trial.state in (TrialState.COMPLETE, TrialState.PRUNED))

    def _begun(self, trials: Sequence[Any]) -> list[Any]:
        from optuna.trial import TrialState

        return [trial for trial in trials if trial.state == TrialState.RUNNING or self._finished(trial)]

    def _tell(self, number: int, state: Any, values: Sequence[float] | None = None) -> bool:
        """Change a running trial's state; False if another worker did so before."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.inner.tell(number, values if values is None else list(values), state)
        except (ValueError, UpdateFinishedTrialError):
            return False
        return True


def _place(trial: Any, before: Sequence[Any]) -> int:
    if ORIGIN in trial.user_attrs:
        return int(trial.user_attrs[ORIGIN])
    return sum(ORIGIN not in one.user_attrs and SURPLUS not in one.user_attrs for one in before)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
