"""A PostgreSQL server of one's own on loopback, in a temporary folder, for as long as a `with` lasts."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_USER = "postgres"
"""The server refuses to run as root; then it runs as this user, which PostgreSQL's packages make."""
_WAIT = 30.0


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs, or None where none is installed."""
    onpath = shutil.which("initdb")
    found = [Path(onpath).resolve().parent] if onpath else []
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return next((path for path in [*found, *reversed(debian)] if (path / "postgres").exists()), None)


def missing() -> str | None:
    """Why no server can be started here; None if one can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (extra `postgres`)"
    if programs() is None:
        return "no PostgreSQL is installed"
    return "runuser is needed to start a server as root" if os.getuid() == 0 and not shutil.which("runuser") else None


COUNTING = ("-c", "shared_preload_libraries=pg_stat_statements")
"""Options with which the server counts statements."""


@contextlib.contextmanager
def server(more: Sequence[str] = ()) -> Iterator[str]:
    """The URL of a new server, started with `more` options, with an empty database."""
    folder = Path(tempfile.mkdtemp(prefix="optimize-pg-"))
    bin_ = programs()
    assert bin_ is not None
    if os.getuid() == 0:
        shutil.chown(folder, _USER)
    data, port = folder / "data", _free_port()
    subprocess.run(
        [*_as_user(), bin_ / "initdb", "-D", data, "-A", "trust", "-U", _USER, "--no-sync", "-E", "UTF8"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    options = ["-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F", "-c", "max_connections=200", *more]
    process = subprocess.Popen(
        [*_as_user(), bin_ / "postgres", "-D", data, *options], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(port, process)
        yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*_as_user(), bin_ / "pg_ctl", "-D", data, "stop", "-m", "immediate"],
            check=False, capture_output=True, cwd=folder,
        )  # fmt: skip
        process.wait(_WAIT)
        shutil.rmtree(folder, ignore_errors=True)


def _as_user() -> list[str]:
    return ["runuser", "-u", _USER, "--"] if os.getuid() == 0 else []


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    until = time.monotonic() + _WAIT
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(f"host=127.0.0.1 port={port} user={_USER} dbname=postgres connect_timeout=2").close()
            return
        time.sleep(0.1)
    raise RuntimeError("the PostgreSQL server does not start")
