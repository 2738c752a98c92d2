"""Every error that Tollgate raises on purpose.

Each carries a stable `code` for machines, an HTTP status and a process exit code, and a message for
people: what was expected, what came, what to do.
"""

from __future__ import annotations

from typing import Any

EXIT_USAGE = 2  # the command or its configuration is wrong
EXIT_BAD_INPUT = 3  # nothing was done, because the input could not be used
EXIT_PARTIAL = 4  # done, but some rows were rejected into a side file
EXIT_UNAVAILABLE = 5  # a resource (disk, database, port, model) could not be used
EXIT_ATTENTION = 6  # done, and something that was looked at is over its limit


class TollgateError(Exception):
    """The root of all deliberate errors.

    Attributes:
        code: Stable, machine-readable name of what went wrong (`missing_field`).
        where: Where it went wrong: any of `row` (zero-based), `column`, `file`, `path`.
    """

    status = 500
    exit_code = 1

    def __init__(self, code: str, message: str, **where: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = {key: value for key, value in where.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the error as HTTP answers and reject files show it."""
        return {"code": self.code, "message": self.message, **self.where}


class ConfigError(TollgateError):
    """The configuration, the schema or a features file is wrong."""

    exit_code = EXIT_USAGE


class InputError(TollgateError):
    """A transaction, a label or a file of them cannot be used as it is."""

    status = 422
    exit_code = EXIT_BAD_INPUT


class MalformedError(InputError):
    """What came is not JSON at all."""

    status = 400


class TooLargeError(InputError):
    """A body, an array or a field is over its limit."""

    status = 413


class ConflictError(InputError):
    """Another body came under a `transaction_id` that was already decided."""

    status = 409


class AuthError(TollgateError):
    """A request came without an API key, or with one that is not good."""

    status = 401
    exit_code = EXIT_USAGE


class ScopeError(AuthError):
    """The API key is good, but not for this."""

    status = 403


class RateError(TollgateError):
    """An API key is over its rate; nothing was applied.

    Attributes:
        retry_after_s: When it may come again, in whole seconds, at least 1.
    """

    status = 429
    exit_code = EXIT_UNAVAILABLE

    def __init__(self, code: str, message: str, retry_after_s: int) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


class CapacityError(TollgateError):
    """A bounded resource is full; the request was shed and nothing was applied."""

    status = 503
    exit_code = EXIT_UNAVAILABLE


class LedgerError(TollgateError):
    """The ledger could not be read or written; nothing was acknowledged."""

    status = 503
    exit_code = EXIT_UNAVAILABLE


class BundleError(TollgateError):
    """A bundle is missing, damaged or made for another schema or version."""

    status = 503
    exit_code = EXIT_UNAVAILABLE


class StreamError(TollgateError):
    """Kafka could not be read or written; nothing was committed there, and the ledger has what was decided.

    Attributes:
        fatal: Whether only a new process can go on.
    """

    status = 503
    exit_code = EXIT_UNAVAILABLE

    def __init__(self, code: str, message: str, *, fatal: bool = False) -> None:
        super().__init__(code, message)
        self.fatal = fatal


class SnapshotError(TollgateError):
    """A snapshot of feature state is missing, damaged or of another plan; the state is rebuilt from the ledger."""

    status = 503
    exit_code = EXIT_UNAVAILABLE


class ModelError(TollgateError):
    """The model could not be built, trained or run."""

    status = 503
    exit_code = EXIT_UNAVAILABLE
