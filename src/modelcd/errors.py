"""Every error modelcd raises on purpose.

An expected "no" is a value (a `Finding`, an ending); an exception means that we were used wrongly, must
refuse, or could not find out.  The three branches are the three exit codes::

    ModelcdError
    ├── UsageError           2  what was asked for cannot be meant
    │   ├── ProjectError        pipeline.py or the data it names
    │   ├── UnknownName         a model, version, environment, release that does not exist
    │   └── ConfigurationError  workspace, environment, port, permission
    ├── Refused              1  understood, and the answer is no
    │   ├── Busy                somebody else is at it
    │   └── Rejected            a check failed, or this version was rejected before
    └── CannotTell           3  we could not find out; nothing was decided
        ├── JournalError
        │   ├── Conflict        the writer had not read the newest record
        │   └── Tampered        the hash chain does not hold
        ├── RegistryError
        ├── RuntimeFailure      a model's process could not be started, seen or stopped
        ├── NotReady            a model does not answer (yet)
        ├── RowsRefused         a model answered that the rows are bad
        ├── RouterError
        ├── MetricsError
        ├── PredictionsError
        └── ChildError          user code raised, ended or overran its budget

Every message says what is wrong; `help` says what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ModelcdError(Exception):
    """The root: catch this to catch everything modelcd raises on purpose.

    `exit_code` is what the command line ends with: 1 the answer is no, 2 used wrongly, 3 could not find out.

    Args:
        message: What is wrong, and where.
        help: What to do about it.

    Examples:
        >>> from modelcd import Canary, Dataset
        >>> from modelcd.errors import ModelcdError
        >>> try:
        ...     Dataset("s3://bucket/rows.parquet", target="late")
        ... except ModelcdError as error:
        ...     print(f"{error.message}\\n{error.help}\\nexit code {error.exit_code}")
        a dataset is a glob of files, got 's3://bucket/rows.parquet'
        for example Dataset("data/*.parquet", …)
        exit code 2
    """

    exit_code = 3

    def __init__(self, message: str, *, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help


class UsageError(ModelcdError):
    """What was asked for cannot be meant."""

    exit_code = 2


class ProjectError(UsageError):
    """The project cannot be delivered as it is written."""


class ConfigurationError(UsageError):
    """The workspace or an environment cannot be used as it is set up."""


class UnknownName(UsageError):
    """A name that does not exist; the message names the nearest that does."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, help: str = "") -> None:
        names = sorted(set(known))
        near = difflib.get_close_matches(name, names, n=1)
        if near:
            hint = f"did you mean {near[0]!r}?"
        elif names:
            hint = f"known: {', '.join(names[:8])}" + (", …" if len(names) > 8 else "")
        else:
            hint = f"there is no {kind} yet"
        super().__init__(f"no {kind} is named {name!r}", help=help or hint)


class Refused(ModelcdError):
    """Understood, and the answer is no."""

    exit_code = 1


class Busy(Refused):
    """Somebody else is at it; the message says who."""


class Rejected(Refused):
    """A check failed, or this very version was rejected before."""


class CannotTell(ModelcdError):
    """We could not find out; nothing was decided and nothing moved."""


class JournalError(CannotTell):
    """The journal could not be read or written."""


class Conflict(JournalError):
    """A record was refused because its writer had not read the newest one."""


class Tampered(JournalError):
    """The journal's hash chain does not hold: a record was changed, removed or reordered."""


class RegistryError(CannotTell):
    """The registry of versions could not be read or written."""


class RuntimeFailure(CannotTell):
    """A model's process could not be started, seen or stopped."""


class NotReady(CannotTell):
    """A model does not answer its readiness probe (yet)."""


class RowsRefused(CannotTell):
    """A model answered that the rows it was sent are bad; whoever wrote them was wrong, or the model is."""


class RouterError(CannotTell):
    """The traffic layer could not be read, or was not seen to do what was asked."""


class MetricsError(CannotTell):
    """Live counts could not be read."""


class PredictionsError(CannotTell):
    """The prediction log could not be read or written."""


class ChildError(CannotTell):
    """User code raised, ended or overran its budget in its child process."""


def one_line(error: Exception) -> str:
    """Return what one line of a log says of *error*."""
    return error.message if isinstance(error, ModelcdError) else f"{type(error).__name__}: {error}"


def failure(error: ModelcdError) -> dict[str, Any]:
    """Return *error* as JSON values of which a child's parent makes an error again."""
    notes = list(getattr(error, "__notes__", []))
    return {"error": {"kind": type(error).__name__, "message": error.message, "help": error.help, "notes": notes}}
