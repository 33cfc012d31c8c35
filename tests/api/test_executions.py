"""Create execution: what reaches control, and how the answer travels (contract: functions-api 5.15, 10)."""

import email
import email.policy
import json
from typing import Any

import pytest
from msgspec.structs import replace

from hearth.api.multipart_answer import wants_multipart
from hearth.control.views import ExecutionView
from hearth.model.statuses import ExecutionStatus
from tests.api.support import EXECUTION, World

pytestmark = pytest.mark.anyio

EXECUTIONS = "/v1/functions/f1/executions"
IN_TWO_MINUTES = "2026-11-24T10:23:00.000+00:00"  # the clock stands at 10:20:30.123


async def test_nothing_sent_means_the_defaults(world: World) -> None:
    async with world.client() as client:
        answer = await client.post(EXECUTIONS, json={})
    assert answer.status_code == 201
    (_, (project_id, actor), arguments) = world.executions.calls[0]
    assert (project_id, actor.is_privileged) == ("p1", True)
    assert arguments == {
        "function_id": "f1",
        "body": b"",
        "is_async": False,
        "path": "/",
        "method": "POST",
        "headers": {},
        "scheduled_at": None,
        "client_ip": "127.0.0.1",
        "host": "api.test",
        "streams": False,
        "id": "",
    }


async def test_no_body_at_all_is_an_empty_object(world: World) -> None:
    async with world.client() as client:
        assert (await client.post(EXECUTIONS)).status_code == 201


async def test_the_answer_of_a_sync_call_has_body_and_all_headers(world: World) -> None:
    async with world.client() as client:
        execution = (await client.post(EXECUTIONS, json={})).json()
    assert execution["responseBody"] == "hi"
    assert execution["responseHeaders"] == [
        {"name": "content-type", "value": "text/plain"},
        {"name": "x-own", "value": "1"},
    ]
    assert (execution["logs"], execution["status"]) == ("a log\n", "completed")


async def test_a_guest_sees_no_logs(world: World) -> None:
    async with world.client({"x-appwrite-project": "p1"}) as client:
        execution = (await client.post(EXECUTIONS, json={})).json()
    assert (execution["logs"], execution["errors"], execution["responseBody"]) == ("", "", "hi")


async def test_async_and_scheduled_calls_are_answered_202(world: World) -> None:
    waiting = replace(EXECUTION, status=ExecutionStatus.WAITING, response_status_code=0, response_headers=())
    world.executions.results["create"] = ExecutionView(waiting)
    async with world.client() as client:
        answer = await client.post(EXECUTIONS, json={"async": True})
        scheduled = await client.post(EXECUTIONS, json={"async": True, "scheduledAt": IN_TWO_MINUTES})
    assert (answer.status_code, scheduled.status_code) == (202, 202)
    assert (answer.json()["status"], answer.json()["responseHeaders"]) == ("waiting", [])
    assert world.executions.calls[1][2]["scheduled_at"].isoformat() == "2026-11-24T10:23:00+00:00"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"scheduledAt": IN_TWO_MINUTES}, "needs `async`"),
        ({"scheduledAt": "", "async": False}, "needs `async`"),
        ({"scheduledAt": "tomorrow", "async": True}, "whole minute"),
        ({"scheduledAt": "2026-11-24T10:23:01+00:00", "async": True}, "whole minute"),
        ({"scheduledAt": "2026-11-24T10:23:00.001+00:00", "async": True}, "whole minute"),
        ({"scheduledAt": "2026-11-24T10:21:00+00:00", "async": True}, "60 seconds"),
        ({"scheduledAt": "2026-11-24T09:23:00-00:00", "async": True}, "60 seconds"),
        ({"scheduledAt": "nope", "async": True, "headers": {"x-appwrite-key": "x"}}, "whole minute"),
    ],
)
async def test_a_date_that_cannot_be_scheduled_is_refused_before_the_headers_are_looked_at(
    world: World, body: dict[str, Any], words: str
) -> None:
    async with world.client() as client:
        answer = await client.post(EXECUTIONS, json=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "general_bad_request")
    assert words in answer.json()["message"]
    assert world.executions.calls == []


@pytest.mark.parametrize(
    "date", ["2026-11-24T10:23:00Z", "2026-11-24T11:23:00+01:00", "2026-11-24 10:23:00", "2026-11-24T10:23"]
)
async def test_dates_may_have_any_iso_form(world: World, date: str) -> None:
    async with world.client() as client:
        answer = await client.post(EXECUTIONS, json={"async": True, "scheduledAt": date})
    assert answer.status_code == 202
    assert world.executions.calls[0][2]["scheduled_at"].isoformat() == "2026-11-24T10:23:00+00:00"


@pytest.mark.parametrize("headers", [{"x-appwrite-key": "x"}, {"a b": "x"}, {"a": []}, "[1]", 7])
async def test_bad_headers_are_an_invalid_parameter(world: World, headers: Any) -> None:
    async with world.client() as client:
        answer = await client.post(EXECUTIONS, json={"headers": headers})
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
    assert answer.json()["message"].startswith("Invalid `headers` param: ")


async def test_a_form_carries_headers_as_json_text_and_a_binary_body(world: World) -> None:
    fields = {
        "body": (None, b"\xff\x00\xfe"),
        "async": (None, "false"),
        "headers": (None, '{"x-own":"1"}'),
        "method": (None, "PUT"),
    }
    async with world.client() as client:
        answer = await client.post(EXECUTIONS, files=fields)
    assert answer.status_code == 201
    arguments = world.executions.calls[0][2]
    assert (arguments["body"], arguments["headers"]) == (b"\xff\x00\xfe", {"x-own": "1"})
    assert (arguments["method"], arguments["is_async"]) == ("PUT", False)


@pytest.mark.slow
async def test_the_body_may_have_10_mi_characters_and_one_more_is_refused_by_its_name(world: World) -> None:
    async with world.client() as client:
        full = await client.post(EXECUTIONS, json={"body": "x" * 10_485_760})
        more = await client.post(EXECUTIONS, json={"body": "x" * 10_485_761})
    assert full.status_code == 201
    assert more.json()["message"] == "Invalid `body` param: Value must be text of at most 10485760 characters"


async def test_a_binary_response_body_cannot_travel_as_json(world: World) -> None:
    """The execution is stored; the answer is 400 `general_unknown` (contract: functions-api 10.4)."""
    world.executions.results["create"] = ExecutionView(EXECUTION, b"\xff\xfe", ())
    async with world.client() as client:
        answer = await client.post(EXECUTIONS, json={})
    assert (answer.status_code, answer.json()["code"], answer.json()["type"]) == (400, 400, "general_unknown")
    assert answer.json()["message"].startswith("Failed to parse response")
    assert "e1" in answer.json()["message"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("multipart/form-data", True),
        ("multipart/*", True),
        ("text/html, multipart/form-data", True),
        ("multipart/form-data, application/json", True),
        ("application/json, multipart/form-data", False),
        ("application/*;q=0.5, multipart/*", False),
        ("*/*", False),
        ("", False),
        ("text/html", False),
    ],
)
def test_the_first_entry_of_accept_that_names_one_decides(accept: str, expected: bool) -> None:
    assert wants_multipart(accept) is expected


async def test_a_multipart_answer_has_one_part_per_key_in_order(world: World) -> None:
    binary = b"\xff\x00\r\n--\r\n\xfe"
    world.executions.results["create"] = ExecutionView(EXECUTION, binary, (("x-own", "1"),))
    async with world.client() as client:
        plain = (await client.get(EXECUTIONS + "/e1")).json()
        answer = await client.post(EXECUTIONS, json={}, headers={"accept": "multipart/form-data"})
    kind = answer.headers["content-type"]
    boundary = kind.partition("boundary=")[2]
    assert answer.status_code == 201
    assert boundary.startswith("-" * 27)
    assert len(boundary) == 27 + 13
    assert answer.content.endswith(f"\r\n--{boundary}--\r\n".encode())
    head = f"content-type: {kind}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    assert list(parts) == list(plain)
    assert parts["responseBody"].get_payload(decode=True) == binary
    assert parts["scheduledAt"].get_payload(decode=True) == b""
    assert parts["responseStatusCode"].get_payload(decode=True) == b"200"
    assert parts["duration"].get_payload(decode=True) == b"0.25"
    assert parts["responseHeaders"].get_content_type() == "application/json"
    assert json.loads(parts["responseHeaders"].get_payload(decode=True)) == [{"name": "x-own", "value": "1"}]


async def test_a_multipart_answer_is_shaped_like_the_json_one(world: World) -> None:
    headers = {"accept": "multipart/form-data", "x-appwrite-response-format": "1.9.5"}
    async with world.client() as client:
        answer = await client.post(EXECUTIONS, json={}, headers=headers)
    assert b'name="functionId"' in answer.content
    assert b'name="resourceType"' not in answer.content


async def test_the_client_address_is_the_peer_unless_a_trusted_proxy_says_otherwise() -> None:
    cases = [
        (World(), "203.0.113.9", "198.51.100.1", "203.0.113.9"),
        (World(), "127.0.0.1", "198.51.100.1", "198.51.100.1"),
        (World(), "127.0.0.1", "6.6.6.6, 198.51.100.1, 127.0.0.1", "198.51.100.1"),
        (World(), "127.0.0.1", "not an address", "127.0.0.1"),
        (World(trusted_proxies=frozenset({"10.0.0.1"})), "10.0.0.1", "2001:db8::1", "2001:db8::1"),
    ]
    for world, peer, forwarded, expected in cases:
        async with world.client(client=(peer, 1)) as client:
            await client.post(EXECUTIONS, json={}, headers={"x-forwarded-for": forwarded})
        assert world.executions.calls[0][2]["client_ip"] == expected, (peer, forwarded)


async def test_a_user_is_passed_to_control_as_he_is(world: World) -> None:
    async with world.client({"x-appwrite-project": "p1", "x-appwrite-session": "ann"}) as client:
        await client.get(EXECUTIONS + "/e1")
    (_, (_, actor), arguments) = world.executions.calls[0]
    assert (actor.user_id, arguments) == ("ann", {"function_id": "f1", "execution_id": "e1"})
