"""The OpenAPI documents: valid, and true of what the reader accepts and refuses."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tollgate.config import ServeConfig, parse_config
from tollgate.decision import Outcome
from tollgate.errors import InputError
from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.schema import payment_schema
from tollgate.serve.fields import example, transaction_schema
from tollgate.serve.openapi import internal_document, public_document
from tollgate.serve.refusals import INTERNAL, LABELS, PUBLIC

FOREIGN = parse_config(
    """
    [money]
    currency = "EUR"
    [schema]
    ignore = ["note"]
    [schema.columns]
    transaction_id = { kind = "id", from = "ref" }
    effective_time = { kind = "timestamp", from = "when", unit = "ms" }
    born = { kind = "timestamp", zone = "Europe/Berlin" }
    amount = { kind = "money", from = "total", currency = "JPY", required = true }
    tip = { kind = "money", currency_column = "tip_currency" }
    tip_currency = { kind = "category" }
    shop_id = { kind = "entity", from = "shop", required = true }
    shop = { kind = "category" }
    risk = { kind = "number", required = true }
    known = { kind = "flag", required = true }
    home = { kind = "location", lat = "y", lon = "x", required = true }
    [[money.rates]]
    date = 1970-01-01
    to_base = { JPY = 0.006 }
    """,
    "test",
)
CASES = {"payment": (payment_schema(), Money("EUR")), "foreign": (FOREIGN.table, FOREIGN.money)}
# What no schema can say of a value of the right shape.
BEYOND = {
    "bad_timestamp",
    "bad_number",
    "no_zone",
    "bad_amount",
    "no_rate",
    "unknown_currency",
    "missing_value",
    "wrong_type",
}

# Times are rounded to microseconds, so a tiny number below 0 is the time 0 to the reader.
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value == 0 or abs(value) > 1e-3)
SCALARS = (
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=300)
    | st.sampled_from(["", 0, 1, 2, -1, 90, -90.5, 180, 181, "EUR", "XXX", "x" * 256, "x" * 257, 10**256, 1e255])
)  # fmt: skip
ANYTHING = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)


@cache
def known(case):
    schema, money = CASES[case]
    document = transaction_schema(schema, money)
    return document, Draft202012Validator(document), TransactionReader(schema, money, b"k" * 16), example(schema, money)


@cache
def transactions(case):
    """Objects of the document. Each field is drawn from its own schema: the library does not draw whole objects well."""
    document = known(case)[0]
    ignored = CASES[case][0].ignore
    fields = {
        name: ANYTHING if name in ignored else from_schema(schema) for name, schema in document["properties"].items()
    }
    needed = set(document["required"])
    return st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in needed},
        optional={name: field for name, field in fields.items() if name not in needed},
    )


def refused(reader, row):
    """The code with which a row is refused, or None."""
    try:
        reader.from_json(json.dumps(row).encode())
    except InputError as error:
        return error.code
    return None


def documents():
    public = [json.loads(public_document(*case, ServeConfig())) for case in CASES.values()]
    return [*public, json.loads(internal_document())]


@pytest.mark.parametrize("place", range(len(CASES) + 1))
def test_each_document_is_valid_openapi(place):
    """A validator of OpenAPI 3.1 has nothing to say, and the examples in it are of their schemas."""
    document = documents()[place]
    OpenAPIV31SpecValidator(document).validate()
    for path in document["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                assert "X-Request-Id" in answer["headers"]
                check_examples(document, answer["content"])
            check_examples(document, operation.get("requestBody", {}).get("content", {}))


def check_examples(document, content):
    for media in content.values():
        shown = [one["value"] for one in media.get("examples", {}).values()]
        for value in [*shown, *([media["example"]] if "example" in media else [])]:
            Draft202012Validator({**document, **media["schema"]}).validate(value)


@pytest.mark.parametrize("case", CASES)
def test_the_example_is_accepted(case):
    """Whoever copies the example gets a decision."""
    _, validator, reader, sent = known(case)
    validator.validate(sent)
    assert refused(reader, sent) is None


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_the_document_accepts_is_decoded(case, data):
    """A transaction made from the document has fields and types that the reader knows; only its meaning may be wrong."""
    _, validator, reader, _ = known(case)
    row = data.draw(transactions(case))
    validator.validate(row)
    reader.decode(json.dumps(row).encode())
    assert refused(reader, row) in BEYOND | {None}


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_document_and_the_reader_agree_on_one_changed_field(case, data):
    """What the document refuses is refused; what it accepts is decoded. A field is changed, added or left out."""
    document, validator, reader, sent = known(case)
    field = data.draw(st.sampled_from([*document["properties"], "colour"]))
    row = dict(sent)
    if data.draw(st.booleans()):
        row[field] = data.draw(ANYTHING)
    else:
        row.pop(field, None)
    value = row.get(field)
    code = refused(reader, row)
    if not validator.is_valid(row):
        assert code is not None
    elif not (isinstance(value, float) and value.is_integer()):  # 1.0 is an integer to JSON Schema, not to the reader
        reader.decode(json.dumps(row).encode())
        assert code in BEYOND | {None}


def test_a_conflict_of_two_columns_on_one_field_is_told():
    """A field that two columns read is described by both."""
    assert "allOf" in known("foreign")[0]["properties"]["shop"]


def test_decisions_are_described_as_they_are_sent():
    """The schemas of the answer come from the structs that make it."""
    schemas = documents()[0]["components"]["schemas"]
    assert schemas["Outcome"]["enum"] == sorted(Outcome)
    assert {"score", "confidence", "mode", "reasons"} <= set(schemas["Decision"]["properties"])


def test_every_refusal_is_in_the_document():
    """Each status with each of its codes is there, and Retry-After where trying again makes sense."""
    public, _, internal = documents()
    for statuses, operation in (
        (PUBLIC, public["paths"]["/predict"]["post"]),
        (INTERNAL, internal["paths"]["/champion"]["put"]),
        (LABELS, internal["paths"]["/labels"]["post"]),
    ):
        assert set(operation["responses"]) == {"200", *map(str, statuses)}
        for status, what in statuses.items():
            answer = operation["responses"][str(status)]
            assert set(answer["content"]["application/json"]["examples"]) == set(what.codes)
            assert ("Retry-After" in answer["headers"]) == what.retry
    assert {status for status, what in PUBLIC.items() if what.retry} == {429, 503}


def test_the_page_names_every_refusal():
    """The table of docs/api.md has exactly the statuses and codes of the document."""
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    table = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)`", page, re.MULTILINE)}
    assert table == {(status, code) for status, what in PUBLIC.items() for code in what.codes}
