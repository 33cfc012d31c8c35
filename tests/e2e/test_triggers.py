"""Schedules and events on a real server, through restarts and a kill."""

import sqlite3
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.support.api import create_function, deploy, ok
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

RUN_WAIT_S = 60.0
ECHO = """
def main(context):
    told = {name: value for name, value in context.req.headers.items() if name.startswith('x-appwrite-')}
    context.log(told['x-appwrite-trigger'] + '|' + told['x-appwrite-event'] + '|' + context.req.body_text)
    return context.res.empty()
"""


def ran(client: httpx.Client, id: str, count: int) -> list[dict[str, Any]]:
    """The executions of a function once `count` have ended."""
    path = f"/functions/{id}/executions"

    def ended() -> bool:
        found = ok(client.get(path))["executions"]
        return len([it for it in found if it["status"] in ("completed", "failed")]) >= count

    wait_for(ended, RUN_WAIT_S, f"{count} executions of {id}")
    return list(ok(client.get(path))["executions"])


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
    with running_server() as server:
        with server.client() as client:
            create_function(client, "listener", python, entrypoint="main.py", events=["users.*.create"])
            create_function(client, "daily", python, entrypoint="main.py", schedule="* * * * *")
            for id in ("listener", "daily"):
                assert deploy(client, id, {"main.py": ECHO})["status"] == "ready"
            settings = {"scheduleMissedRuns": "once", "schedulePayload": {"body": "from the schedule"}}
            shown = ok(client.patch("/functions/daily/settings", json=settings))
            assert len(shown["scheduleNextRuns"]) == 5
            paused = {"schedulePaused": True}
            ok(client.patch("/functions/daily/settings", json=paused))

            ok(client.post("/users", json={"userId": "ann"}))
            (execution,) = ran(client, "listener", 1)
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
            first, *_ = ran(client, "daily", 1)
            assert (first["trigger"], first["status"]) == ("schedule", "completed")
            assert first["logs"].startswith("schedule||from the schedule")
            assert first["scheduledAt"].endswith(":00.000+00:00")
            assert first["queueTime"] >= 0
            assert first["peakMemory"] > 0, "figures, as of any run"
            planned = [it["scheduledAt"] for it in ok(client.get("/functions/daily/executions"))["executions"]]
            assert len(set(planned)) == len(planned) <= 3
        server.assert_nothing_left()
