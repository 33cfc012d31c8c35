"""The query language: what is understood, what is refused and in which words (contract: functions-api 7)."""

import json
from typing import Any

import pytest

from hearth.model.queries import Filter, InvalidQuery, Kind, Order, parse_queries

ATTRIBUTES = {
    "name": Kind.STRING,
    "timeout": Kind.INTEGER,
    "duration": Kind.FLOAT,
    "enabled": Kind.BOOLEAN,
    "roles": Kind.STRINGS,
}


def query(method: str, attribute: str | None = None, values: list[Any] | None = None) -> str:
    parts: dict[str, Any] = {"method": method}
    parts |= {} if attribute is None else {"attribute": attribute}
    parts |= {} if values is None else {"values": values}
    return json.dumps(parts)


def test_nothing_given_means_the_first_25_in_insertion_order() -> None:
    parsed = parse_queries([], ATTRIBUTES)
    assert (parsed.limit, parsed.offset, parsed.orders, parsed.filters) == (25, 0, (), ())


def test_the_first_of_each_page_query_wins() -> None:
    texts = [query("limit", values=[5]), query("limit", values=[9]), query("offset", values=[2])]
    parsed = parse_queries(texts, ATTRIBUTES)
    assert (parsed.limit, parsed.offset) == (5, 2)


def test_logic_holds_nested_query_objects() -> None:
    inner = [{"method": "equal", "attribute": "name", "values": ["a"]}, {"method": "isNull", "attribute": "name"}]
    (either,) = parse_queries([query("or", values=inner)], ATTRIBUTES).filters
    assert either.method == "or"
    assert either.parts == (Filter("equal", "name", ("a",)), Filter("isNull", "name"))


def test_an_order_without_attribute_is_insertion_order_and_the_cli_form_is_understood() -> None:
    texts = [query("orderDesc"), json.dumps({"method": "orderDesc", "values": ["$id"]})]
    assert parse_queries(texts, ATTRIBUTES).orders == (Order("$sequence", True), Order("$id", True))


def test_cursors_name_a_document_and_a_direction() -> None:
    parsed = parse_queries([query("cursorBefore", values=["abc"])], ATTRIBUTES)
    assert (parsed.cursor, parsed.cursor_before) == ("abc", True)


def test_dates_are_read_as_utc() -> None:
    (found,) = parse_queries([query("lessThan", "$createdAt", ["2026-01-02T03:04:05.678"])], ATTRIBUTES).filters
    assert found.values[0].isoformat() == "2026-01-02T03:04:05.678000+00:00"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense", "JSON object"),
        ("[]", "JSON object"),
        (json.dumps({"method": 5}), "must be text"),
        (query("regex", "name", ["a"]), "Invalid query method: regex"),
        (query("equal", "shoe", ["a"]), "Attribute not found in schema: shoe"),
        (query("equal", "name", []), "at least one value"),
        (query("equal", "name", ["a"] * 501), "at most 500 values"),
        (query("notEqual", "name", ["a", "b"]), "exactly one value"),
        (query("between", "timeout", [1]), "exactly two values"),
        (query("equal", "timeout", ["1"]), "expected integer"),
        (query("equal", "timeout", [True]), "expected integer"),
        (query("equal", "timeout", [2**63]), "expected integer"),
        (query("equal", "enabled", [1]), "expected boolean"),
        (query("equal", "name", [None]), "expected string"),
        (query("lessThan", "$createdAt", ["yesterday"]), "expected datetime"),
        (query("search", "name", ["a"]), "requires a fulltext index"),
        (query("startsWith", "timeout", ["1"]), "needs a text attribute"),
        (query("contains", "timeout", [1]), "text or list attribute"),
        (query("equal", "roles", ["a"]), "because it is an array"),
        (query("or", values=[]), "at least one query"),
        (query("or", values=[{"method": "limit", "values": [1]}]), "filters only"),
        (query("select", values=["name"]), "not allowed here"),
        (query("limit", values=[0]), "at least 1"),
        (query("offset", values=[-1]), "at least 0"),
        (query("cursorAfter", values=[""]), "takes a document id"),
        (query("crosses", "name", ["a"]), "does not apply"),
        (query("equal", "name", ["a" * 5000]), "at most 4096 characters"),
    ],
)
def test_what_is_not_understood_is_refused_in_words(text: str, complaint: str) -> None:
    with pytest.raises(InvalidQuery, match=complaint):
        parse_queries([text], ATTRIBUTES)


def test_more_than_a_hundred_queries_are_refused() -> None:
    with pytest.raises(InvalidQuery, match="at most 100"):
        parse_queries([query("isNull", "name")] * 101, ATTRIBUTES)


def test_select_is_kept_where_it_is_allowed_and_may_not_repeat_itself() -> None:
    assert parse_queries([query("select", values=["name"])], ATTRIBUTES, selectable=True).select == ("name",)
    with pytest.raises(InvalidQuery, match="twice"):
        parse_queries([query("select", values=["name", "name"])], ATTRIBUTES, selectable=True)
