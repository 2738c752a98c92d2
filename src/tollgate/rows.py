"""Transactions of one schema as rows: decoded from JSON, and written as the bytes that the ledger keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tollgate.codec import flag_of, missing
from tollgate.errors import InputError, MalformedError, TooLargeError
from tollgate.lines import Lines
from tollgate.schema import Column, Kind, Schema

Row = Any  # an instance of `RowCodec.type`, which is made from the schema

_TYPES: dict[Kind, Any] = {
    Kind.ID: str | int,
    Kind.ENTITY: str | int | float | None,
    Kind.CATEGORY: str | int | float | None,
    Kind.MONEY: float | None,
    Kind.NUMBER: float | None,
    Kind.LOCATION: float | None,
    Kind.FLAG: bool | int | None,
    Kind.TIMESTAMP: str | int | float | None,
}


class RowCodec:
    """Reads and writes rows of one schema: structs whose fields are those that the schema reads, in its order.

    Attributes:
        type: The type of a row.
        places: Where in a row the value of each field of the input is.
    """

    def __init__(self, schema: Schema) -> None:
        """Make the codec of a schema."""
        sources = _sources(schema)
        self._ignored = tuple(f"f{len(sources) + i}" for i, name in enumerate(_unread(schema)))
        self.type = _row_type(schema)
        self.places = {source: place for place, source in enumerate(sources)}
        self._fields = {source: f"f{place}" for source, place in self.places.items()}
        self._typed = _typed_readers(schema)
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.type)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[self.type])  # type: ignore[name-defined]
        self._encoder = msgspec.json.Encoder()

    def decode(self, body: bytes, most: int | None = None) -> tuple[bool, list[Row]]:
        """Return whether a JSON body is an array, and its rows, whose values are of checked types.

        Args:
            body: The JSON.
            most: How many rows an array may have.

        Raises:
            InputError: The body is not JSON, a field is missing, unknown or of a wrong type, or there are too many.
        """
        if not is_array(body):
            return False, [self.decode_one(body)]
        try:
            rows = self._many.decode(body)
        except _UNREADABLE as error:
            raise _refusal(error) from None
        if most is not None and len(rows) > most:
            raise TooLargeError(
                "too_many",
                f"expected at most {most} transactions in one array, but got {len(rows)}; send several",
            )
        for field in self._ignored:
            for row in rows:
                setattr(row, field, None)
        return True, rows

    def decode_one(self, body: bytes) -> Row:
        """Return the row in a JSON body that is one object, as `decode` does."""
        try:
            row = self._one.decode(body)
        except _UNREADABLE as error:
            raise _refusal(error) from None
        for field in self._ignored:
            setattr(row, field, None)
        return row

    def body(self, row: Row) -> bytes:
        """Return a transaction's fields as the ledger keeps them: equal transactions are equal bytes."""
        return self._encoder.encode(row)

    def bodies(self, rows: Sequence[Row]) -> Lines:
        """Return the bodies of rows."""
        return Lines(self._encoder.encode_lines(rows))

    def attribute(self, source: str) -> str:
        """Return the name of a row's attribute that holds a field of the input."""
        return self._fields[source]

    def row(self, cells: Mapping[str, Any]) -> Row:
        """Return the row of a mapping from field to value, unchecked; what the schema does not read is left out."""
        return self.type(**{field: cells.get(source) for source, field in self._fields.items()})

    def cells(self, row: Row) -> dict[str, Any]:
        """Return a row as a mapping from field to value."""
        return {source: getattr(row, field) for source, field in self._fields.items()}

    def typed(self, cells: Mapping[str, Any]) -> Row:
        """Return the row of a file's valid cells, which may be texts, as `decode` would read it from JSON."""
        return self.row({
            source: self._typed[source](value) for source, value in cells.items()
            if source in self._fields and not missing(value)
        })  # fmt: skip


def is_array(body: bytes) -> bool:
    """Return whether JSON is an array, if it is any."""
    return body.lstrip()[:1] == b"["


def _sources(schema: Schema) -> dict[str, Any]:
    """Return the fields that a schema reads, and their JSON types; several columns may read one field."""
    types: dict[str, Any] = {}
    for name, column in schema.columns.items():
        for source in schema.sources(name):
            types[source] = types[source] | _TYPES[column.kind] if source in types else _TYPES[column.kind]
    return types


def _unread(schema: Schema) -> tuple[str, ...]:
    sources = _sources(schema)
    return tuple(name for name in dict.fromkeys(schema.ignore) if name not in sources)


def _row_type(schema: Schema) -> type:
    required = {source for name in schema.required for source in schema.sources(name)}
    types: dict[str, Any] = _sources(schema) | dict.fromkeys(schema.ignore, Any)
    fields: list[Any] = []
    rename: dict[str, str] = {}
    for place, (source, kind) in enumerate(types.items()):
        rename[f"f{place}"] = source
        fields.append((f"f{place}", kind) if source in required else (f"f{place}", kind, None))
    return msgspec.defstruct(
        "Row", fields, rename=rename, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, gc=False
    )


def _typed_readers(schema: Schema) -> dict[str, Callable[[Any], Any]]:
    """Return, for each field, what a file's cell of it is in JSON."""
    kinds: dict[str, set[str]] = {}
    for name, column in schema.columns.items():
        for source in schema.sources(name):
            kinds.setdefault(source, set()).add(_written_as(column))
    # Where several columns read one field, the text, if one of them reads texts, is what all of them can read.
    return {
        source: _as_it_is if "text" in ways else float if "number" in ways else _flag for source, ways in kinds.items()
    }


def _written_as(column: Column) -> str:
    if column.kind in (Kind.MONEY, Kind.NUMBER, Kind.LOCATION) or column.unit is not None:
        return "number"
    return "flag" if column.kind is Kind.FLAG else "text"


def _flag(value: Any) -> bool:
    return flag_of(value) == 1.0


def _as_it_is(value: Any) -> Any:
    return value


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what the decoder raises


def _refusal(error: Exception) -> InputError:
    """Return why a body that the decoder did not read is refused."""
    if isinstance(error, msgspec.ValidationError):
        return _explain(str(error))
    if isinstance(error, RecursionError):
        return MalformedError(
            "invalid_json", "expected a JSON object or an array of them, but it is nested too deeply; send it flat"
        )
    return MalformedError("invalid_json", f"expected a JSON object or an array of them: {error}")


_PATH = re.compile(r" - at `\$(?:\[(\d+)\])?(?:\.(.+))?`$")
_MISSING = re.compile(r"Object missing required field `(.+?)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`")
_SHAPES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (_MISSING, "missing_field", "expected a field '{0}', but there is none"),
    (
        _UNKNOWN,
        "unknown_field",
        "the schema has no field '{0}'; leave it out, or name it in [schema] of tollgate.toml (columns or ignore)",
    ),
)


def _explain(text: str) -> InputError:
    """Turn the decoder's message into ours."""
    path = _PATH.search(text)
    row = int(path[1]) if path and path[1] else None
    for pattern, code, message in _SHAPES:
        match = pattern.search(text)
        if match:
            return InputError(code, message.format(match[1]), row=row, column=match[1])
    field = path[2] if path else None
    what = _PATH.sub("", text)
    return InputError("wrong_type", f"'{field}': {what}" if field else what, row=row, column=field)
