"""Schedules and events on a real server, through restarts and a kill."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.support.api import create_function, deploy, ok
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

RUN_WAIT_S = 60.0
#: Logs what it is told; scheduled runs, and the event of one user, then wait for somebody to open the gate.
ECHO = """
import asyncio

gate = asyncio.Event()

async def main(context):
    if context.req.path == '/open':
        gate.set()
        return context.res.text('open')
    told = {name: value for name, value in context.req.headers.items() if name.startswith('x-appwrite-')}
    trigger, body = told['x-appwrite-trigger'], context.req.body_text
    context.log(trigger + '|' + told['x-appwrite-event'] + '|' + body)
    if trigger == 'schedule' or '"$id":"ann"' in body:
        await gate.wait()
        context.log('the gate is open')
    return context.res.empty()
"""


def ran(client: httpx.Client, id: str, count: int) -> list[dict[str, Any]]:
    """The executions of a function that nobody called, once `count` have ended."""
    path, query = f"/functions/{id}/executions", '{"method":"notEqual","attribute":"trigger","values":["http"]}'

    def found() -> list[dict[str, Any]]:
        return list(ok(client.get(path, params={"queries[]": query}))["executions"])

    wait_for(
        lambda: len([it for it in found() if it["status"] in ("completed", "failed")]) >= count,
        RUN_WAIT_S,
        f"{count} executions of {id}",
    )
    return found()


def followed(client: httpx.Client, id: str, start: Callable[[], object]) -> dict[str, Any]:
    """Follow a function's log, `start` a run, and open its gate once its first line is read; the record afterwards."""
    lines: list[str] = []
    ours = ""
    with client.stream("GET", f"/functions/{id}/logs", params={"follow": "true"}) as answer:
        started = False
        for line in answer.iter_lines():
            if not started:
                start()
                started = True
            name, _, value = line.partition(": ")
            if name != "data":
                continue
            data = json.loads(value)
            ours = ours or data["executionId"]
            if data["executionId"] != ours:
                continue
            if "status" in data:
                assert data["status"] == "completed"
                break
            lines.append(data["line"])
            if len(lines) == 1:
                assert ok(client.get(f"/functions/{id}/executions/{ours}"))["status"] == "processing"
                assert (
                    client.post(f"/functions/{id}/executions", json={"path": "/open"}).json()["responseBody"] == "open"
                )
    record = ok(client.get(f"/functions/{id}/executions/{ours}"))
    assert (record["logs"].splitlines(), lines[1:]) == (lines, ["the gate is open"])
    return record


def put_back(server: Server, hours: int) -> None:
    """Make the database of a stopped server so many hours old, as far as schedules look at it."""
    span = hours * 3_600_000
    with closing(sqlite3.connect(server.data_dir / "hearth.db")) as connection, connection:
        connection.execute("UPDATE functions SET updated_at = updated_at - ?", (span,))
        connection.execute("UPDATE function_settings SET updated_at = updated_at - ?", (span,))
        connection.execute(
            "UPDATE facts SET value = CAST(CAST(CAST(value AS TEXT) AS INTEGER) - ? AS TEXT)"
            " WHERE name = 'schedules planned until'",
            (span,),
        )


def test_functions_run_on_events_and_on_schedule_and_nothing_is_lost_by_a_kill() -> None:
    python = runtime_of("python")
    with running_server({"HEARTH_MAX_INSTANCES_PER_FUNCTION": "1"}) as server:
        with server.client() as client:
            create_function(client, "listener", python, entrypoint="main.py", events=["users.*.create"], timeout=120)
            create_function(client, "daily", python, entrypoint="main.py", schedule="* * * * *", timeout=120)
            for id in ("listener", "daily"):
                assert deploy(client, id, {"main.py": ECHO})["status"] == "ready"
            settings = {"scheduleMissedRuns": "once", "schedulePayload": {"body": "from the schedule"}}
            shown = ok(client.patch("/functions/daily/settings", json=settings))
            assert len(shown["scheduleNextRuns"]) == 5
            paused = {"schedulePaused": True}
            ok(client.patch("/functions/daily/settings", json=paused))

            execution = followed(client, "listener", lambda: ok(client.post("/users", json={"userId": "ann"})))
            assert [it["$id"] for it in ran(client, "listener", 1)] == [execution["$id"]]
            assert (execution["trigger"], execution["status"]) == ("event", "completed")
            assert execution["logs"].startswith("event|users.ann.create|{")
            assert '"$id":"ann"' in execution["logs"]

            # Accepted, and killed before anything may have come of it.
            published = {"event": "users.bob.create", "payload": {"$id": "bob"}}
            assert client.post("/events", json=published).status_code == 202
        server.kill()
        put_back(server, hours=2)
        server.start()
        with server.client() as client:
            found = ran(client, "listener", 2)
            assert len(found) == 2
            assert any("users.bob.create" in it["logs"] or it["status"] == "failed" for it in found)
            assert ok(client.get("/functions/daily/executions"))["total"] == 0, "it is paused"
            ok(client.patch("/functions/daily/settings", json={"schedulePaused": False}))
        assert server.stop() == 0
        put_back(server, hours=2)
        server.start()
        with server.client() as client:
            # It has missed some 120 planned times, which are one run; another minute may come meanwhile.
            first = followed(client, "daily", lambda: None)
            assert (first["trigger"], first["status"]) == ("schedule", "completed")
            assert first["logs"].startswith("schedule||from the schedule")
            assert first["scheduledAt"].endswith(":00.000+00:00")
            assert first["queueTime"] >= 0
            assert first["peakMemory"] > 0, "figures, as of any run"
            planned = [it["scheduledAt"] for it in ran(client, "daily", 1)]
            assert len(set(planned)) == len(planned) <= 3
        server.assert_nothing_left()
