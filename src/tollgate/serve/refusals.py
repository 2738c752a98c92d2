"""Every way in which a request can be refused: status, code, what it means. The document and its readers share it."""

from __future__ import annotations

from typing import NamedTuple


class Status(NamedTuple):
    """What an HTTP status means here.

    Attributes:
        means: A sentence.
        codes: Each error code that comes with it, and when.
        retry: Whether the same request may succeed later; Retry-After says when.
    """

    means: str
    codes: dict[str, str]
    retry: bool = False


PUBLIC: dict[int, Status] = {
    400: Status(
        "The request is not HTTP, or its body is not JSON.",
        {
            "invalid_json": "The body is not JSON in UTF-8.",
            "bad_request": "The request line, a header or the framing of the body is wrong.",
        },
    ),
    401: Status(
        "There is no valid API key.",
        {"no_key": "The server wants a key and none came.", "bad_key": "The key is unknown, wrong or revoked."},
    ),
    403: Status("The key may not do this.", {"no_scope": "The key is valid and lacks the scope."}),
    404: Status("There is no such path.", {"not_found": "The message names the paths that there are."}),
    405: Status("The path does not know the method.", {"method_not_allowed": "`Allow` names the method."}),
    408: Status("The request did not come whole in time.", {"request_timeout": "Headers or body came too slowly."}),
    409: Status(
        "The transaction_id is taken.",
        {
            "conflicting_transaction": "It was decided with other fields; nothing was decided now.",
            "imported_transaction": "It was imported as history and never decided.",
            "archived_transaction": "It is as old as what is archived, and may have been decided before.",
        },
    ),
    413: Status(
        "There is too much in one request.",
        {
            "body_too_large": "The body is longer than `max_body_bytes`.",
            "too_many": "The array has more transactions than `max_transactions`.",
        },
    ),
    414: Status("The path is too long.", {"uri_too_long": "Path and query are longer than the server reads."}),
    417: Status("The client expects what there is not.", {"expectation_failed": "`Expect` is not `100-continue`."}),
    422: Status(
        "A transaction cannot be used as it is. Nothing of the request was decided.",
        {
            "missing_field": "A required field is not there.",
            "missing_value": "A required field is null or empty.",
            "unknown_field": "The schema has no such field.",
            "wrong_type": "A value has another type than the field.",
            "bad_amount": "An amount is negative, too large or has more decimals than its currency.",
            "bad_number": "A number is not finite.",
            "bad_timestamp": "A time is not ISO 8601, or before or after every payment.",
            "no_zone": "A time has no offset.",
            "time_ahead": "A time is too far ahead of the server's clock.",
            "bad_location": "A latitude or longitude is out of range.",
            "too_long": "An id or a category is longer than 256 characters.",
            "unknown_currency": "The currency is no ISO 4217 code.",
            "no_rate": "The currency has no rate on that day.",
            "raw_pan": "A field holds what looks like a raw card number.",
            "duplicate_id": "The array has one transaction_id twice.",
        },
    ),
    429: Status(
        "The key sends too much.", {"rate_exceeded": "More requests a second than the key may send."}, retry=True
    ),
    431: Status("The headers are too large.", {"headers_too_large": "Headers are longer than the server reads."}),
    501: Status(
        "The server does not know how.",
        {"not_implemented": "The method is CONNECT, or `Transfer-Encoding` has more than `chunked`."},
    ),
    503: Status(
        "The server cannot decide now. Nothing was acknowledged; the same request may be sent again.",
        {
            "not_ready": "The feature state is being rebuilt from the ledger.",
            "overloaded": "Too many transactions are waiting.",
            "stopping": "The server is finishing what it has.",
            "too_many_connections": "Too many connections are open.",
            "ledger_failed": "The ledger cannot be written.",
            "ledger_in_use": "The connection to the ledger was lost, and another process writes it now.",
            "ledger_moved": "Another process wrote the ledger meanwhile; the feature state is rebuilt.",
            "state_full": "The feature state has no memory left.",
        },
        retry=True,
    ),
    505: Status("The version is another.", {"unknown_version": "The request is neither HTTP/1.1 nor HTTP/1.0."}),
}

LABELS: dict[int, Status] = {
    400: Status("The body is not JSON.", {"invalid_json": "The body is not JSON in UTF-8."}),
    401: PUBLIC[401],
    403: PUBLIC[403],
    404: Status(
        "The label is of no transaction that is recorded. Of an array, the answer says so label by label.",
        {"unknown_transaction": "There is no such transaction; it may still come."},
    ),
    405: PUBLIC[405],
    409: Status(
        "The label contradicts one that is recorded. Of an array, the answer says so label by label.",
        {"conflicting_label": "Its source has said the opposite for the same moment."},
    ),
    413: Status(
        "There is too much in one request.",
        {
            "body_too_large": "The body is longer than the server reads.",
            "too_many": "The array has more than 10,000 labels.",
        },
    ),
    422: Status("A label cannot be read. Nothing was recorded.", {"bad_label": "The message says what is wrong."}),
    429: PUBLIC[429],
    503: Status(
        "Labels cannot be recorded now. The same request may be sent again: what is recorded already is not recorded "
        "twice.",
        {
            "not_ready": "The feature state is being rebuilt from the ledger.",
            "overloaded": "Too many labels are waiting.",
            "ledger_failed": "The ledger cannot be written.",
        },
        retry=True,
    ),
}

INTERNAL: dict[int, Status] = {
    400: PUBLIC[400],
    401: PUBLIC[401],
    403: PUBLIC[403],
    404: Status(
        "There is no such path, or no such bundle.",
        {"not_found": "The message names the paths that there are.", "no_bundle": "The registry has no such bundle."},
    ),
    405: PUBLIC[405],
    409: Status("There is nothing to go back to.", {"no_predecessor": "No champion came before this one."}),
    413: PUBLIC[413],
    422: Status(
        "The body is JSON of the wrong shape.",
        {"wrong_type": "A field is missing, unknown or of a wrong type.", "bad_level": "There is no such log level."},
    ),
    429: PUBLIC[429],
    503: Status(
        "The registry or the ledger cannot be used now.",
        {
            "damaged_bundle": "A file of the bundle has changed since it was stored.",
            "cannot_promote": "The pointer to the champion cannot be written.",
            "ledger_failed": "The change cannot be recorded, so it was not made.",
        },
        retry=True,
    ),
}
