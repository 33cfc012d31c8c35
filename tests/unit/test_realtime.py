"""Whom an event reaches and which payloads a query wants; pure (contract: functions-api 14, clients 6.1)."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from hearth.api.realtime.filters import BadQuery, read_queries
from hearth.api.realtime.reach import reach_of
from hearth.model.events import Occurrence, Published
from hearth.model.resources import Execution
from hearth.model.statuses import ExecutionStatus, Trigger

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def execution(*permissions: str) -> Execution:
    return Execution(
        id="E",
        project_id="p",
        function_id="F",
        deployment_id="D",
        created_at=NOW,
        updated_at=NOW,
        trigger=Trigger.HTTP,
        status=ExecutionStatus.COMPLETED,
        request_method="GET",
        request_path="/",
        permissions=permissions,
    )


def reach(event: str, subject: object = None, team_id: str = "") -> dict[str, tuple[set[str], set[str]]]:
    """Project -> channels and roles."""
    found = reach_of(Occurrence("p", event, subject), team_id)
    return {it.project_id: (set(it.channels), set(it.roles)) for it in found}


def test_an_execution_reaches_who_may_read_it_and_the_console() -> None:
    event = "functions.F.executions.E.update"
    found = reach(event, execution('read("user:U")', 'read("team:T")', 'delete("any")'), team_id="O")
    channels, roles = found["p"]
    plain = {"executions", "executions.E", "functions.F"}
    assert channels == plain | {f"{channel}.update" for channel in plain}
    assert roles == {"user:U", "team:T"}
    assert found["console"] == ({"console", "projects.p"}, {"team:O"})


def test_an_execution_that_nobody_may_read_reaches_the_console_only() -> None:
    assert set(reach("functions.F.executions.E.create", execution(), team_id="O")) == {"console"}
    assert reach("functions.F.executions.E.create", execution()) == {}


@pytest.mark.parametrize(
    ("event", "channels", "roles"),
    [
        ("users.U.update.name", {"account", "account.U"}, {"user:U"}),
        ("users.U.sessions.S.create", {"account", "account.U"}, {"user:U"}),
        ("teams.T.update.prefs", {"teams", "teams.T"}, {"team:T"}),
        ("teams.T.memberships.M.create", {"memberships", "memberships.M"}, {"team:T"}),
    ],
)
def test_people_hear_of_themselves(event: str, channels: set[str], roles: set[str]) -> None:
    found, who = reach(event)["p"]
    assert {channel for channel in found if not channel.endswith((".create", ".update"))} == channels
    assert who == roles


@pytest.mark.parametrize(
    "event", ["functions.F.deployments.D.update", "functions.F.create", "variables.V.create", "rules.R.delete"]
)
def test_what_belongs_to_owners_reaches_owners_only(event: str) -> None:
    assert set(reach(event, team_id="O")) == {"console"}


@pytest.mark.parametrize(
    ("event", "channel"),
    [
        ("databases.D.collections.C.documents.X.create", "databases.D.collections.C.documents.X"),
        ("databases.D.tables.C.rows.X.create", "rows"),
        ("tablesdb.D.tables.C.rows.X.create", "tablesdb.D.tables.C.rows"),
        ("buckets.B.files.X.create", "buckets.B.files.X"),
    ],
)
def test_published_events_reach_those_their_permissions_name(event: str, channel: str) -> None:
    payload = {"$permissions": ['read("label:vip")', 'update("any")', 5]}
    channels, roles = reach(event, Published(payload))["p"]
    assert channel in channels
    assert roles == {"label:vip"}
    for nobody in ({}, {"$permissions": "any"}, {"$permissions": []}):
        assert reach(event, Published(nobody)) == {}


def query(method: str, attribute: str = "", *values: Any) -> str:
    return json.dumps({"method": method, "attribute": attribute, "values": list(values)})


PAYLOAD = {"status": "failed", "code": 500, "ok": True, "none": None, "name": "b"}


@pytest.mark.parametrize(
    ("queries", "wanted"),
    [
        ([], True),
        ([query("select", "", "*")], True),
        ([query("equal", "status", "failed", "waiting")], True),
        ([query("equal", "status", "completed")], False),
        ([query("equal", "missing", None)], False),
        ([query("equal", "ok", 1)], False),
        ([query("equal", "ok", True)], True),
        ([query("notEqual", "status", "failed")], False),
        ([query("notEqual", "missing", "x")], True),
        ([query("lessThan", "code", 500)], False),
        ([query("lessThanEqual", "code", 500)], True),
        ([query("greaterThan", "name", "a")], True),
        ([query("greaterThanEqual", "code", "500")], False),
        ([query("greaterThan", "ok", 0)], False),
        ([query("isNull", "none")], True),
        ([query("isNotNull", "status")], True),
        ([query("isNull", "status")], False),
        ([query("equal", "status", "failed"), query("equal", "code", 404)], False),
        (
            [
                json.dumps(
                    {
                        "method": "or",
                        "values": [json.loads(query("equal", "code", 404)), json.loads(query("isNull", "none"))],
                    }
                )
            ],
            True,
        ),
        (
            [
                json.dumps(
                    {
                        "method": "and",
                        "values": [json.loads(query("equal", "code", 500)), json.loads(query("isNull", "code"))],
                    }
                )
            ],
            False,
        ),
    ],
)
def test_a_subscription_wants_what_all_its_queries_want(queries: list[str], wanted: bool) -> None:
    assert read_queries(queries)(PAYLOAD) is wanted


def nested(depth: int) -> str:
    inner: dict[str, Any] = {"method": "isNull", "attribute": "a"}
    for _ in range(depth):
        inner = {"method": "and", "values": [inner]}
    return json.dumps(inner)


@pytest.mark.parametrize(
    "bad",
    [
        "text",
        "[]",
        5,
        query("search", "name", "x"),
        query("equal", "name"),
        query("equal", ""),
        query("select", "", "name"),
        json.dumps({"method": ["equal"], "attribute": "a", "values": [1]}),
        json.dumps({"method": "equal", "attribute": 5, "values": [1]}),
        json.dumps({"method": "and", "values": ["text"]}),
        nested(9),
        "[" * 100_000,
        query("equal", "name", "x" * 5_000),
    ],
)
def test_a_query_that_cannot_be_asked_of_a_payload_is_refused(bad: Any) -> None:
    with pytest.raises(BadQuery):
        read_queries([bad])


def test_more_queries_than_the_bound_are_refused() -> None:
    assert read_queries([query("isNull", "a")] * 100)({})
    with pytest.raises(BadQuery, match="at most 100"):
        read_queries([query("isNull", "a")] * 101)
