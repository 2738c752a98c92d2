"""A ledger's database, for who reads and writes it beside the process that decides."""

from __future__ import annotations

from typing import Self

from tollgate.ledger.connection import migrate, open_engine


class Database:
    """Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        """Open it, creating or migrating the ledger where needed.

        Args:
            url: The ledger's: `sqlite:///path/to/tollgate.db`.

        Raises:
            LedgerError: It cannot be opened.
        """
        self._engine = open_engine(url)
        try:
            migrate(self._engine)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
