"""Decisions of the commands of a project that need no server."""

from typing import Any

import pytest

from hearth.cli.client.logs import Event, events_of
from hearth.cli.client.output import plain
from hearth.cli.client.problems import WrongUse
from hearth.cli.client.push import news
from hearth.cli.client.records import deployment_before, parse_changes
from hearth.cli.client.replay import differences


def test_events_are_cut_out_of_a_stream() -> None:
    lines = [
        ": open",
        "",
        "id: 1",
        "event: log",
        'data: {"a":1}',
        "",
        "data: x",
        "data: y",
        "",
        ": quiet",
        "",
        "data: cut off",
    ]
    assert list(events_of(lines)) == [Event("log", '{"a":1}', "1"), Event("message", "x\ny", "1")]


def test_of_a_log_only_what_is_new_is_shown() -> None:
    assert news("", "a\n") == "a\n"
    assert news("a\n", "a\nb\n") == "b\n"
    assert news("a\nb\n", "(cut)\nb\nc\n") == "c\n"
    assert news("a\n", "other\n") == "other\n"


def test_what_moves_a_terminal_is_taken_out() -> None:
    assert plain("\x1b[31mred\x1b[0m\x1b]0;t\x07 \r\tx\n") == "red]0;t \tx\n"


def test_a_rollback_goes_to_the_newest_ready_deployment_before_the_active_one() -> None:
    statuses = {"e": "ready", "d": "ready", "c": "failed", "b": "ready"}
    found = [{"$id": id, "status": status} for id, status in statuses.items()]
    assert deployment_before(found, "d") == "b"
    assert deployment_before(found, "e") == "d"
    assert deployment_before(found, "b") == ""
    assert deployment_before(found, "gone") == ""
    assert deployment_before(found, "") == "e"


KNOWN = {"functionId": "f", "$updatedAt": "", "zone": "UTC", "n": 1, "on": False, "allow": [], "payload": {}}


def test_a_setting_is_read_as_what_it_holds() -> None:
    changes = ["zone=Europe/Berlin", "n=2", "on=true", "allow=a:1, b:2", 'payload={"body":"a=b"}']
    assert parse_changes(changes, KNOWN) == {
        "zone": "Europe/Berlin", "n": 2, "on": True, "allow": ["a:1", "b:2"], "payload": {"body": "a=b"},
    }  # fmt: skip
    assert parse_changes(["allow=", 'allow=["x"]'], KNOWN) == {"allow": ["x"]}


@pytest.mark.parametrize("change", ["zone", "nothing=1", "functionId=x", "n=one"])
def test_a_change_that_cannot_be_read_is_wrong_use(change: str) -> None:
    with pytest.raises(WrongUse):
        parse_changes([change], KNOWN)


def comparison(**changes: Any) -> dict[str, Any]:
    same = {"equal": True, "diff": ""}
    return {"headers": [], "body": same, "logs": same, "errors": same, **changes}


def test_of_a_replay_only_what_differs_is_shown() -> None:
    assert differences(comparison()) == ["status, headers, body, logs and errors are the same"]
    found = differences(
        comparison(
            headers=[{"name": "a", "before": ["1"], "after": ["2", "3"]}],
            body={"equal": False, "kind": "binary", "diff": ""},
            logs={"equal": False, "diff": "-x\n+y\n"},
            errors={"equal": False, "diff": ""},
        )
    )
    assert found == [
        "- a: 1", "+ a: 2", "+ a: 3", "body:", "they differ, and are not text", "logs:", "-x", "+y", "errors:",
        "they differ",
    ]  # fmt: skip
