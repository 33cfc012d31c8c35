"""Roles, events, execution headers and CRON rules."""

from typing import Any

import pytest

from hearth.api.cron import Cron
from hearth.api.grammar import HEADERS_MAX_BYTES, Event, ExecutionHeaders, Role, check_headers
from hearth.api.validators import Invalid
from hearth.data import load
from hearth.model.cron import is_cron


@pytest.mark.parametrize(
    "role",
    [
        *("any", "guests", "users", "users/verified", "users/unverified", "user:u1", "user:u1/verified"),
        *("user:u1/unverified", "team:t1", "team:t1/owner", "team:t1/" + "r" * 81, "member:m1", "label:vip2"),
    ],
)
def test_roles_of_the_contract_are_accepted(role: str) -> None:
    assert Role().check(role) == role


@pytest.mark.parametrize(
    "role",
    [
        *("*", "", "role:all", "role:member", "any:x", "any/verified", "guests/verified", "users:x", "users/x"),
        *("user", "user:", "user:_x", "user:u1/x", "team", "team:", "team:t1/", "team:t1/" + "r" * 82),
        *("member:", "member:m1/x", "label:", "label:a-b", "label:ä", "label:a/b", "nobody", "Any", 7, None),
    ],
)
def test_any_other_role_is_refused(role: Any) -> None:
    with pytest.raises(Invalid):
        Role().check(role)


@pytest.mark.parametrize(
    "event",
    [
        *("users.*", "users.*.create", "users.u1.update.email", "users.*.sessions.*.create", "users.*.sessions.s1"),
        *("databases.*.collections.*.documents.*.update", "buckets.*.files.*.create", "teams.t1.memberships.*.update"),
    ],
)
def test_events_of_the_table_are_accepted(event: str) -> None:
    assert Event().check(event) == event


def test_every_pattern_of_the_table_is_accepted_except_those_of_functions() -> None:
    for row in load("events.json")["patterns"]:
        pattern = row["pattern"]
        if pattern.startswith("functions."):
            with pytest.raises(Invalid):
                Event().check(pattern)
        else:
            assert Event().check(pattern) == pattern


@pytest.mark.parametrize(
    "event",
    [
        *("", "users", "nobody.*", "users.*.nope", "users.*.sessions", "users.*.create.nope", "users..create"),
        *("functions.*", "functions.f1.executions.*.create", "users.*.$model", "$model.x", "users._x.create"),
        *("databases.*.collections.*.documents.*.update.more", "a.b.c.d.e.f.g.h", 7, None),
    ],
)
def test_any_other_event_is_refused(event: Any) -> None:
    with pytest.raises(Invalid):
        Event().check(event)


class TestExecutionHeaders:
    """Contract: functions-api 5.15."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({}, {}),
            ([], {}),
            ("", {}),
            ("{}", {}),
            ({"A": "b"}, {"A": "b"}),
            ('{"a": 1}', {"a": "1"}),
            ({"a": 1.5, "b": True, "c": None}, {"a": "1.5", "b": "true", "c": ""}),
        ],
    )
    def test_an_object_or_its_json_text_becomes_texts(self, value: Any, expected: dict[str, str]) -> None:
        assert ExecutionHeaders().check(value) == expected

    @pytest.mark.parametrize("value", [None, 1, ["a"], "[1]", "x", '"a"', {"a": []}, {"a": {}}, " " * 65_536])
    def test_anything_else_is_refused(self, value: Any) -> None:
        with pytest.raises(Invalid):
            ExecutionHeaders().check(value)

    def test_good_headers_pass(self) -> None:
        check_headers({"x-own": "1", "A": "", "x--y": "ü", "accept": "*/*"})
        check_headers({f"h{number}": "" for number in range(100)})

    @pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a_b", "ä", "a:", "x-appwrite-key", "X-Appwrite-User-Id"])
    def test_bad_names_are_refused(self, name: str) -> None:
        with pytest.raises(Invalid):
            check_headers({name: "x"})

    @pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "\0"])
    def test_a_value_cannot_smuggle_another_header(self, value: str) -> None:
        with pytest.raises(Invalid, match="single line"):
            check_headers({"a": value})

    def test_more_than_a_hundred_are_refused(self) -> None:
        with pytest.raises(Invalid, match="100 headers"):
            check_headers({f"h{number}": "" for number in range(101)})

    def test_their_size_in_bytes_is_bounded(self) -> None:
        check_headers({"a": "x" * (HEADERS_MAX_BYTES - 2)})
        with pytest.raises(Invalid, match="16384 bytes"):
            check_headers({"a": "x" * (HEADERS_MAX_BYTES - 1)})
        with pytest.raises(Invalid, match="16384 bytes"):
            check_headers({"a": "ü" * (HEADERS_MAX_BYTES // 2)})


@pytest.mark.parametrize(
    "rule",
    [
        *("* * * * *", "*/5 * * * *", "0 0 1 1 0", "59 23 31 12 7", "0 12 * * MON-FRI", "0 12 * jan,Jul sun"),
        *("1,2,3-9/2 * * * *", "5/15 * * * *", "0 0 L * *", "0 0 15W * *", "0 0 * * 5L", "0 0 * * 5#3", "0 0 ? * 1"),
        *("0 0 29 2 *", "0 0 * 2 5#5", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"),
        *("@Daily", "  0   0  *  *  * ", "0 0 30 2 1", "0 0 31W * *"),
    ],
)
def test_rules_that_are_due_some_day_are_accepted(rule: str) -> None:
    assert Cron().check(rule) == rule


def test_no_schedule_is_fine() -> None:
    assert Cron().check("") == ""


@pytest.mark.parametrize(
    "rule",
    [
        *("*", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *"),
        *("* * * 13 *", "* * * * 8", "9-5 * * * *", "*/0 * * * *", "a * * * *", "1- * * * *", "-1 * * * *"),
        *("1,, * * * *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "@reboot", "@", "0 0 * * 5#6", "0 0 * * #1", "? * * * *"),
        *("0 0 W * *", "0 0 32W * *", "0 0 * * L5", "1.5 * * * *", "٣ * * * *", "0 0 * * FOO", "0 0 31W 2 *"),
        *("0," * 200 + "0 * * * *", 5, None, " "),
    ],
)
def test_rules_that_are_malformed_or_never_due_are_refused(rule: Any) -> None:
    with pytest.raises(Invalid, match="five fields"):
        Cron().check(rule)


def test_a_rule_that_is_never_due_is_found_out_quickly() -> None:
    """The search is bounded, so no caller can hold the event loop with it."""
    assert not any(is_cron(f"0 0 {day} 2 *") for day in (30, 31))
