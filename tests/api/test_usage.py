"""Usage figures over HTTP: of one function and of all, by the hour and by the day."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from hearth.model.statuses import ExecutionStatus
from tests.api.whole import PROJECT_ID as PROJECT
from tests.api.whole import Whole, whole
from tests.store.samples import execution

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as composed:
        yield composed


async def test_figures_are_those_of_the_executions_also_when_these_are_gone(app: Whole) -> None:
    async with app.client() as client:
        for id in ("f", "g"):
            body = {"functionId": id, "name": id, "runtime": "node-22"}
            assert (await client.post("/functions", json=body)).status_code == 201
        now = app.clock.now()
        async with app.store.begin(PROJECT) as unit:
            for number in range(10):
                status = ExecutionStatus.FAILED if number == 0 else ExecutionStatus.COMPLETED
                moment = now - timedelta(days=2) if number == 1 else now
                await unit.executions.insert(
                    execution(
                        f"e{number}",
                        PROJECT,
                        created_at=moment,
                        status=status,
                        duration_s=0.01,
                        queued_s=0.0,
                        is_cold=number == 2,
                        cpu_s=0.002,
                        peak_memory_bytes=1_000 + number,
                    )
                )
            await unit.executions.insert(execution("other", PROJECT, function_id="g", created_at=now))
        month = (await client.get("/functions/f/usage")).json()
        assert (month["range"], month["executionsTotal"], month["executionsFailedTotal"]) == ("30d", 10, 1)
        assert [step["value"] for step in month["executions"][-3:]] == [1, 0, 9]
        assert month["executionsTimeTotal"] == 100
        assert (month["executionsCpuTimeTotal"], month["executionsColdTotal"]) == (20, 1)
        assert (month["executionsColdShare"], month["executionsPeakMemoryMax"]) == (0.1, 1_009)
        assert [step["value"] for step in month["executionsPeakMemory"][-3:]] == [1_001, 0, 1_009]
        assert 5 <= month["executionsP50"] <= 20
        assert len(month["deployments"]) == 30
        day = (await client.get("/functions/f/usage", params={"range": "24h"})).json()
        assert (day["executionsTotal"], len(day["executions"]), day["executions"][-1]["value"]) == (9, 24, 9)
        every = (await client.get("/functions/usage")).json()
        assert (every["executionsTotal"], every["functionsTotal"]) == (11, 2)
        async with app.store.begin(PROJECT) as unit:
            assert await unit.executions.delete_of("f", 100) == 10
        assert (await client.get("/functions/f/usage")).json() == month


async def test_what_is_no_range_and_no_function_is_refused(app: Whole) -> None:
    async with app.client() as client:
        wrong: httpx.Response = await client.get("/functions/usage", params={"range": "7d"})
        assert (wrong.status_code, wrong.json()["type"]) == (400, "general_argument_invalid")
        missing = await client.get("/functions/none/usage")
        assert (missing.status_code, missing.json()["type"]) == (404, "function_not_found")
