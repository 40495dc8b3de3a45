"""Where a study lives: a journal file (beside the output, or where `--storage` says) or a database.

| `--storage`                                | what it is                                                          |
|--------------------------------------------|---------------------------------------------------------------------|
| left out                                   | `OUTPUT.study`, a journal file; this machine's workers share it     |
| `journal:PATH`, or a path without `://`    | a journal file, on a file system that all workers have              |
| `postgresql://USER@HOST/NAME`              | PostgreSQL (extra `postgres`); any number of workers and machines   |
| another URL that SQLAlchemy knows          | what it names                                                       |

A worker keeps one connection to a database, and for moments a second one for its heartbeat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimizer.errors import ConfigError, MissingExtra
from optimizer.tune.locks import FileLock

_SCHEMES = {"postgresql://": "postgresql+psycopg://", "postgres://": "postgresql+psycopg://"}
_POOL = {"pool_size": 1, "max_overflow": 2, "pool_pre_ping": True, "pool_recycle": 600}


def open_storage(place: str) -> Any:
    """The `optuna` storage at `place`. Raises `MissingExtra`, or `ConfigError` where there is none."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra("optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return _database(place) if "://" in place else _journal(Path(place.removeprefix("journal:")))


def close(storage: Any) -> None:
    """Give the storage's connections back."""
    storage.remove_session()
    if hasattr(storage, "engine"):
        storage.engine.dispose()


def _journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if not path.parent.is_dir():
        raise ConfigError(f"the study's journal {path} has no folder to be in; create {path.parent} first")
    lock: Any = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        return JournalStorage(JournalFileBackend(str(path), lock))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be used as a study's journal: {_line(error)}") from error


def _database(url: str) -> Any:
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    for short, whole in _SCHEMES.items():
        url = whole + url.removeprefix(short) if url.startswith(short) else url
    try:
        return RDBStorage(url, engine_kwargs=_POOL)
    except ImportError as error:
        if "+psycopg://" in url:
            raise MissingExtra("psycopg", "postgres") from error
        raise ConfigError(f"--storage cannot be opened: {_line(error)}") from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"--storage cannot be opened: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
