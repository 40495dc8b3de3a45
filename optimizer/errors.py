"""The exceptions a user can meet. Each message says what is wrong and what to do about it, in one line.

The command line turns them into exit statuses: 2 for `UserError` (bad usage, file, data or configuration),
1 for `BoundMissed` (a bound or gate was missed; nothing was written). Anything else is our own fault and exits 3.
"""

from __future__ import annotations


class OptimizeError(Exception):
    """Base of all exceptions this package raises on purpose."""

    exit_code = 3


class UserError(OptimizeError):
    """The request cannot be carried out as given: wrong usage, file, data or configuration."""

    exit_code = 2


class ModelError(UserError):
    """The model file is missing, damaged, hostile or not ONNX."""


class DataError(UserError):
    """The sample data does not exist, cannot be read or does not fit the model's inputs."""


class ConfigError(UserError):
    """The configuration file or an option has a value that makes no sense."""


class OutputError(UserError):
    """The result cannot be written where it should go."""


class MissingExtra(UserError):
    """An optional package is needed for this command."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}: pip install 'optimize-onnx[{extra}]'")


class NothingToDo(UserError):
    """The model is already what was asked for, or has nothing that the command could change."""


class BoundMissed(OptimizeError):
    """A bound or gate was missed; nothing was written."""

    exit_code = 1
