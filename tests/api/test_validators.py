"""What each kind of parameter accepts, and that its text names the limit."""

from typing import Any

import pytest

from hearth.api.resources import executions, functions
from hearth.api.routes import Validator
from hearth.api.validators import Boolean, Content, Id, Integer, Invalid, Items, OneOf, Queries, Text
from hearth.model.queries import ListQuery

ACCEPTED: list[tuple[Validator, Any, Any]] = [
    (Id(), "a", "a"),
    (Id(), "A.b_c-1", "A.b_c-1"),
    (Id(), "x" * 36, "x" * 36),
    (Id(custom=True), "unique()", "unique()"),
    (Text(0, 3), "", ""),
    (Text(1, 3), "äöü", "äöü"),
    (Content(4), "añb", "añb".encode()),
    (Content(4), b"\xff\x00", b"\xff\x00"),
    (Integer(1, 900, "seconds"), 1, 1),
    (Integer(1, 900, "seconds"), 900, 900),
    (Integer(1, 900, "seconds"), "15", 15),
    (Boolean(), True, True),
    (Boolean(loose=True), "True", True),
    (Boolean(loose=True), "False", False),
    (Boolean(loose=True), "true", True),
    (Boolean(loose=True), "0", False),
    (Boolean(loose=True), 1, True),
    (OneOf(("GET", "POST")), "POST", "POST"),
    (OneOf(("GET",), empty=True), "", ""),
    (Items(Text(1, 2), 2), ["a", "b"], ("a", "b")),
    (Items(Text(1, 2), 2), [], ()),
]


@pytest.mark.parametrize(("validator", "value", "expected"), ACCEPTED)
def test_an_accepted_value_becomes_what_control_takes(validator: Validator, value: Any, expected: Any) -> None:
    assert validator.check(value) == expected
    assert type(validator.check(value)) is type(expected)


REFUSED: list[tuple[Validator, Any]] = [
    *((Id(), value) for value in ("", "_a", ".a", "-a", "a b", "a/b", "ä", "x" * 37, "unique()", 5, None, ["a"])),
    *((Text(1, 3), value) for value in ("", "abcd", 1, None, b"a", ["a"], "a\0")),
    *((Content(4), value) for value in ("abcde", b"abcde", 1, {}, "\ud800")),
    *((Integer(1, 900, "seconds"), value) for value in (0, 901, 1.5, True, "1.5", "", "x", "-1", "²", None, 10**30)),
    *((Boolean(), value) for value in ("true", 1, 0, None, "")),
    *((Boolean(loose=True), value) for value in ("yes", "TRUE", 2, None, "", 1.0, [])),
    *((OneOf(("GET", "POST")), value) for value in ("get", "", None, ["GET"])),
    *((Items(Text(1, 2), 2), value) for value in ("a", {"0": "a"}, ["a", "b", "c"], [1], [""], None)),
]


@pytest.mark.parametrize(("validator", "value"), REFUSED)
def test_any_other_value_is_refused(validator: Validator, value: Any) -> None:
    with pytest.raises(Invalid):
        validator.check(value)


@pytest.mark.parametrize(
    ("validator", "words"),
    [
        (Id(), "1 to 36 characters"),
        (Id(custom=True), "`unique()`"),
        (Text(1, 128), "1 to 128 characters"),
        (Content(10_485_760), "at most 10485760 characters"),
        (Integer(1, 900, "seconds"), "number of seconds from 1 to 900"),
        (Boolean(loose=True), "true or false, or 1 or 0"),
        (OneOf(("source", "output")), "source, output"),
        (Items(Text(1, 128), 100, "patterns"), "at most 100 patterns"),
    ],
)
def test_the_text_of_a_validator_names_its_limit_and_unit(validator: Validator, words: str) -> None:
    assert words in validator.text


class TestQueries:
    """The `queries` of list calls."""

    validator = Queries(functions.ATTRIBUTES)

    def test_nothing_asks_for_the_first_25(self) -> None:
        assert self.validator.default == ListQuery()

    def test_one_query_as_plain_text_is_a_list_of_one(self) -> None:
        query = self.validator.check('{"method":"limit","values":[3]}')
        assert query.limit == 3

    def test_an_order_without_attribute_is_accepted(self) -> None:
        """The CLI names it in `values` (contract: clients 5.5)."""
        query = self.validator.check(['{"method":"orderDesc","values":["$id"]}'])
        assert query.orders[0].descending

    @pytest.mark.parametrize(
        "text",
        [
            '{"method":"nope"}',
            '{"method":"equal","attribute":"nope","values":["a"]}',
            '{"method":"equal","attribute":"scheduleNext","values":["a"]}',
            '{"method":"search","attribute":"name","values":["a"]}',
            '{"method":"select","values":["name"]}',
            '{"method":"limit","values":[0]}',
            "not json",
            '{"method":"and","values":[' * 2_000,
        ],
    )
    def test_a_query_that_is_not_understood_is_refused_as_such(self, text: str) -> None:
        with pytest.raises(Invalid, match=r"^Invalid query: "):
            self.validator.check([text])

    def test_a_default_limit_yields_to_the_one_sent(self) -> None:
        validator = Queries(functions.ATTRIBUTES, default_limit=1_000)
        assert validator.check([]).limit == 1_000
        assert validator.check(['{"method":"limit","values":[7]}']).limit == 7

    def test_a_hundred_queries_are_accepted_and_one_more_is_not(self) -> None:
        one = '{"method":"orderAsc","attribute":"name"}'
        self.validator.check([one] * 100)
        with pytest.raises(Invalid, match="at most 100"):
            self.validator.check([one] * 101)

    def test_executions_can_be_filtered_by_what_the_contract_names(self) -> None:
        names = ("trigger", "status", "responseStatusCode", "duration", "requestMethod", "requestPath", "deploymentId")
        assert set(executions.ATTRIBUTES) == set(names)
