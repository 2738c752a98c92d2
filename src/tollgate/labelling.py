"""What every door for labels shares: how one is read and checked, and what is said where it is not taken."""

from __future__ import annotations

from typing import Any

import msgspec

from tollgate.codec import MAX_TEXT, MAX_TIME_US
from tollgate.errors import ConflictError, InputError, MalformedError, NotFoundError, TooLargeError
from tollgate.label import Label, Labelled, LabelResult

MAX_LABELS = 10_000  # in one array
_LABEL = msgspec.json.Decoder(Label)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS = ", ".join(Label.__struct_fields__)


def read_label(body: bytes | msgspec.Raw) -> Label:
    """Return the label that JSON holds.

    Raises:
        MalformedError: It is no JSON.
        InputError: It holds something else.
    """
    try:
        label = _LABEL.decode(body)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError("bad_label", f"expected a label {{{_FIELDS}}}, but: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError("invalid_json", f"expected a label {{{_FIELDS}}} as JSON: {error}") from None
    return checked(label)


def read_labels(body: bytes) -> tuple[bool, list[Label]]:
    """Return whether a body holds an array of labels, and the labels that it holds.

    Raises:
        MalformedError: It is no JSON.
        TooLargeError: There are more than `MAX_LABELS`.
        InputError: It holds something else; `row` names which of an array.
    """
    try:
        found = _ITEMS.decode(body)
    except msgspec.ValidationError:
        return False, [read_label(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("invalid_json", f"expected a label as JSON, or an array of them: {error}") from None
    if len(found) > MAX_LABELS:
        raise TooLargeError("too_many", f"expected at most {MAX_LABELS} labels, but got {len(found)}")
    labels = []
    for row, one in enumerate(found):
        try:
            labels.append(read_label(one))
        except InputError as error:
            raise type(error)(error.code, error.message, **{**error.where, "row": row}) from None
    return True, labels


def label_of(fields: dict[str, Any]) -> Label:
    """Return the label with these fields, as a file has them.

    Raises:
        InputError: They make none.
    """
    try:
        label = msgspec.convert(fields, Label)
    except msgspec.ValidationError as error:
        raise InputError("bad_label", f"expected a label {{{_FIELDS}}}, but: {error}") from None
    return checked(label)


def checked(label: Label) -> Label:
    """Return a label whose values are in range.

    Raises:
        InputError: One is not.
    """
    if not 0 < len(label.transaction_id) <= MAX_TEXT or "\0" in label.transaction_id:
        raise InputError(
            "bad_label",
            f"expected a transaction_id of 1 to {MAX_TEXT} characters, none of them NUL",
            column="transaction_id",
        )
    if label.available_us is not None and not 0 <= label.available_us <= MAX_TIME_US:
        raise InputError(
            "bad_label",
            f"expected a time in microseconds since 1970-01-01 UTC, but got {label.available_us}",
            column="available_us",
        )
    return label


def refusal_of(label: Label, result: LabelResult) -> InputError | None:
    """Return why a label was not taken; None where it was."""
    name = label.transaction_id
    match result:
        case LabelResult.UNKNOWN_TRANSACTION:
            return NotFoundError(
                result.value,
                f"expected a transaction that is recorded, but there is no {name!r}; send the label once it is",
            )
        case LabelResult.CONFLICTING_LABEL:
            return ConflictError(
                result.value,
                f"{label.source} said the opposite of {name!r} for the same moment; take it back with a later "
                "available_us",
            )
        case _:
            return None


def labelled(label: Label, result: LabelResult) -> Labelled:
    """Return what is answered to a label."""
    error = refusal_of(label, result)
    return Labelled(label.transaction_id, result, None if error is None else error.message)
