"""One keep-alive connection that tells what it read, and nothing of an answer that did not come whole."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from typing import NamedTuple, Self

LIMIT_S = 30.0
_MS = 1e3
_JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """A whole answer.

    Attributes:
        code: Of the error, or empty.
        retry_after: The header, if it came.
        ms: From before the request was sent, in milliseconds.
    """

    status: int
    body: bytes
    code: str
    retry_after: str | None
    ms: float


class BrokenError(Exception):
    """The connection ended before an answer was read whole: nothing is known."""


class Client:
    """A client of one port; not for several threads."""

    def __init__(self, port: int, limit_s: float = LIMIT_S, headers: Mapping[str, str] | None = None) -> None:
        """Connect at the first request, and again after each break."""
        self._headers = {**_JSON, **(headers or {})}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def get(self, path: str) -> Answer:
        """Return the answer to a GET."""
        return self.send("GET", path, None)

    def predict(self, body: bytes) -> Answer:
        """Return the answer to a POST /predict."""
        return self.send("POST", "/predict", body)

    def send(self, method: str, path: str, body: bytes | None) -> Answer:
        """Return the answer to a request.

        Raises:
            BrokenError: It did not come whole.
        """
        begun = time.perf_counter()
        try:
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenError(f"{type(error).__name__}: {error}") from None
        ms = (time.perf_counter() - begun) * _MS
        return Answer(response.status, content, _code(content), response.getheader("Retry-After"), ms)

    def close(self) -> None:
        """Close the connection; the next request opens one again."""
        self._connection.close()


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def raw(port: int, limit_s: float = LIMIT_S) -> socket.socket:
    """Return a connected socket."""
    return socket.create_connection(("127.0.0.1", port), timeout=limit_s)
