"""Settings that only this server has, over the real control and store."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.model.events import Occurrence
from tests.api.whole import PROJECT_ID, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FUNCTION = {"functionId": "f1", "name": "Greeter", "runtime": "python-3.12", "schedule": "30 2 * * *"}
DEFAULTS: dict[str, Any] = {
    "functionId": "f1",
    "$updatedAt": "",
    "scheduleTimeZone": "UTC",
    "schedulePaused": False,
    "scheduleMissedRuns": "skip",
    "scheduleJitterS": 0,
    "schedulePayload": {"body": "", "method": "POST", "path": "/", "headers": {}},
    "scheduleNextRuns": [],
    "retryMaxAttempts": 1,
    "retryMaxAgeS": 3600,
    "retryBackoffS": 1,
    "rateLimitPerMinute": 0,
    "maxConcurrency": 0,
    "minInstances": 0,
    "storeBodies": False,
    "bodiesMaxBytes": 65536,
    "bodiesRetentionDays": 7,
    "executionsRetentionDays": 0,
    "executionsRetentionCount": 0,
    "egress": "default",
    "egressAllow": [],
}
SETTINGS = "/functions/f1/settings"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as composed:
        yield composed


@pytest.fixture
async def client(app: Whole) -> AsyncIterator[httpx.AsyncClient]:
    async with app.client() as opened:
        assert (await opened.post("/functions", json=FUNCTION)).status_code == 201
        yield opened


async def test_a_function_begins_with_the_defaults_and_a_patch_changes_what_it_names(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get(SETTINGS)).json() == DEFAULTS
    changed = {
        "scheduleTimeZone": "Europe/Berlin",
        "schedulePayload": {"body": "{}", "method": "PUT", "headers": {"content-type": "application/json"}},
        "minInstances": 2,
        "egress": "list",
        "egressAllow": ["example.com:443", "10.0.0.0/8"],
    }
    first = await client.patch(SETTINGS, json=changed)
    second = await client.patch(SETTINGS, json={"retryMaxAttempts": 5, "minInstances": None})
    assert (first.status_code, second.status_code) == (200, 200)
    found = (await client.get(SETTINGS)).json()
    assert found == second.json()
    assert found.pop("$updatedAt")
    assert found == {name: value for name, value in DEFAULTS.items() if name != "$updatedAt"} | changed | {
        "retryMaxAttempts": 5,
        "schedulePayload": {**changed["schedulePayload"], "path": "/"},  # type: ignore[dict-item]
    }


async def test_nothing_else_touches_them_and_they_go_with_their_function(client: httpx.AsyncClient) -> None:
    before = (await client.get("/functions/f1")).json()
    await client.patch(SETTINGS, json={"minInstances": 2})
    assert (await client.get("/functions/f1")).json() == before
    assert (await client.put("/functions/f1", json={"name": "Other"})).status_code == 200
    assert (await client.get(SETTINGS)).json()["minInstances"] == 2
    await client.delete("/functions/f1")
    assert (await client.get(SETTINGS)).json()["type"] == "function_not_found"
    await client.post("/functions", json=FUNCTION)
    assert (await client.get(SETTINGS)).json() == DEFAULTS


async def test_the_next_runs_are_those_of_the_zone_while_something_can_run(
    app: Whole, client: httpx.AsyncClient
) -> None:
    code = {"code": ("code.tar.gz", gzip.compress(b"not read by anything here"))}
    fields = {"activate": "false", "entrypoint": "main.py"}
    deployed = await client.post("/functions/f1/deployments", data=fields, files=code)
    await app.build("f1", deployed.json()["$id"])
    runs = (await client.patch(SETTINGS, json={"scheduleTimeZone": "America/New_York"})).json()["scheduleNextRuns"]
    assert runs == [f"2026-11-{day}T07:30:00.000+00:00" for day in (25, 26, 27, 28, 29)]
    assert (await client.patch(SETTINGS, json={"schedulePaused": True})).json()["scheduleNextRuns"] == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("scheduleTimeZone", "Europe/Nowhere", "IANA"),
        ("scheduleTimeZone", "../../etc/passwd", "IANA"),
        ("scheduleTimeZone", "Europe", "IANA"),
        ("scheduleMissedRuns", "all", "skip, once"),
        ("scheduleJitterS", 3601, "from 0 to 3600"),
        ("schedulePayload", {"body": "x" * 65_537}, "65536 characters"),
        ("schedulePayload", {"verb": "GET"}, "`verb` is none of body, method, path, headers"),
        ("schedulePayload", {"headers": {"x-appwrite-key": "mine"}}, "reserved"),
        ("schedulePayload", "text", "must be an object"),
        ("retryMaxAttempts", 0, "from 1 to 20"),
        ("rateLimitPerMinute", -1, "from 0 to 1000000"),
        ("storeBodies", "yes", "boolean"),
        ("egress", "some", "default, none, list"),
        ("egressAllow", ["example.com"], "'example.com' is neither host:port"),
        ("egressAllow", ["a:1"] * 101, "at most 100 entries, not 101"),
    ],
)
async def test_a_bad_value_is_refused_by_name_and_limit_and_changes_nothing(
    client: httpx.AsyncClient, name: str, value: Any, said: str
) -> None:
    answer = await client.patch(SETTINGS, json={"minInstances": 1, name: value})
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
    assert f"`{name}`" in answer.json()["message"]
    assert said in answer.json()["message"]
    assert (await client.get(SETTINGS)).json() == DEFAULTS


async def test_the_order_of_checks_is_that_of_functions(app: Whole, client: httpx.AsyncClient) -> None:
    assert (await client.patch("/functions/none/settings", json={})).json()["type"] == "function_not_found"
    bad = await client.patch("/functions/none/settings", json={"minInstances": "x"})
    assert bad.json()["type"] == "general_argument_invalid"
    async with app.client("nobody's") as guest:
        assert (await guest.get(SETTINGS)).json()["type"] == "general_unauthorized_scope"


async def test_a_change_is_told_and_the_next_run_sees_it(app: Whole, client: httpx.AsyncClient) -> None:
    heard: list[Occurrence] = []
    app.events.subscribe(heard.append)
    before = await app.runnables.get(PROJECT_ID, "f1")
    await client.patch(SETTINGS, json={"maxConcurrency": 3})
    after = await app.runnables.get(PROJECT_ID, "f1")
    assert before is not None and after is not None
    assert (before.settings.max_concurrency, after.settings.max_concurrency) == (0, 3)
    assert [occurrence.event for occurrence in heard] == ["functions.f1.update"]
