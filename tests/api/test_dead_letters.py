"""Dead letters and attempts over the real control and store, as a client sees them."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from hearth.model.durability import Attempt, DeadLetter, DeadReason
from hearth.model.statuses import Trigger
from tests.api.support import NOW
from tests.api.test_error_table import Stage
from tests.api.whole import PROJECT_ID, whole

pytestmark = pytest.mark.anyio

LETTERS = "/functions/f/deadletters"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with whole(tmp_path) as app, app.client() as client:
        made = Stage(app, client)
        await made.prepare()
        await made.build()
        yield made


async def put(stage: Stage, *ids: str) -> None:
    request = {
        "functionId": "f",
        "method": "PUT",
        "path": "/work",
        "headers": {"Content-Type": "text/plain", "x-own": "secret"},
        "body": "aGVsbG8=",
        "userId": "",
        "realUserId": "",
        "clientIp": "",
        "trigger": "event",
    }
    async with stage.app.store.begin(PROJECT_ID) as unit:
        for id in ids:
            letter = DeadLetter(
                id,
                PROJECT_ID,
                "f",
                NOW,
                NOW,
                DeadReason.ATTEMPTS_USED,
                "boom",
                3,
                Trigger.EVENT,
                "PUT",
                "/work",
                request,
            )
            await unit.dead_letters.add(letter)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"]


async def test_a_letter_says_what_failed_and_why_and_hides_what_executions_hide(stage: Stage) -> None:
    await put(stage, "a")
    letter = (await stage.client.get(f"{LETTERS}/a")).json()
    assert letter["reason"] == "attemptsUsed"
    assert (letter["executionId"], letter["error"], letter["attempts"], letter["trigger"]) == ("a", "boom", 3, "event")
    assert letter["requestHeaders"] == [{"name": "content-type", "value": "text/plain"}]
    assert letter["requestBodySize"] == len("hello")


async def test_letters_are_listed_filtered_and_counted(stage: Stage) -> None:
    await put(stage, "a", "b", "c")
    listed = (await stage.client.get(LETTERS, params={"queries[]": '{"method":"limit","values":[2]}'})).json()
    assert (listed["total"], [one["$id"] for one in listed["deadLetters"]]) == (3, ["a", "b"])
    query = '{"method":"equal","attribute":"reason","values":["lost"]}'
    assert (await stage.client.get(LETTERS, params={"queries[]": query})).json()["total"] == 0


async def test_a_redriven_letter_is_a_new_execution_of_the_same_request(stage: Stage) -> None:
    await put(stage, "a")
    made = await stage.client.post(f"{LETTERS}/a/redrive")
    assert made.status_code == 202
    execution = made.json()
    assert execution["$id"] != "a"
    assert (execution["status"], execution["trigger"], execution["requestMethod"]) == ("waiting", "event", "PUT")
    assert refused(await stage.client.post(f"{LETTERS}/a/redrive")) == (404, "dead_letter_not_found")
    [job] = [job for job in await stage.app.store.jobs.unfinished() if job.kind == "execute"]
    assert (job.resource_id, job.payload["body"]) == (execution["$id"], "aGVsbG8=")


async def test_all_letters_may_be_redriven_or_purged_at_once(stage: Stage) -> None:
    await put(stage, *(f"a{number:03}" for number in range(120)))
    assert (await stage.client.post(f"{LETTERS}/redrive")).json() == {"total": 120}
    assert (await stage.client.get(LETTERS)).json()["total"] == 0
    await put(stage, "b", "c")
    assert (await stage.client.delete(f"{LETTERS}/b")).status_code == 204
    assert (await stage.client.delete(LETTERS)).status_code == 204
    assert (await stage.client.get(LETTERS)).json()["total"] == 0


async def test_letters_of_another_function_are_not_found(stage: Stage) -> None:
    await put(stage, "a")
    for method, path in (("GET", "a"), ("DELETE", "a"), ("POST", "a/redrive")):
        answer = await stage.client.request(method, f"/functions/other/deadletters/{path}")
        assert refused(answer) == (404, "dead_letter_not_found")
        answer = await stage.client.request(method, f"/functions/none/deadletters/{path}")
        assert refused(answer) == (404, "function_not_found")


async def test_what_cannot_run_now_keeps_its_letter(stage: Stage) -> None:
    await put(stage, "a")
    async with stage.app.store.begin(PROJECT_ID) as unit:
        await unit.functions.update("f", deployment_id="")
    for path in ("redrive", "a/redrive"):
        assert refused(await stage.client.post(f"{LETTERS}/{path}")) == (404, "deployment_not_found")
    assert (await stage.client.get(LETTERS)).json()["total"] == 1


async def test_attempts_are_listed_in_order(stage: Stage) -> None:
    id = (await stage.client.post("/functions/f/executions", json={"async": True})).json()["$id"]
    async with stage.app.store.begin(PROJECT_ID) as unit:
        for number in (2, 1):
            await unit.attempts.add(Attempt(PROJECT_ID, id, number, "d", NOW, 500, 0.5, "logged", "boom"))
    listed = (await stage.client.get(f"/functions/f/executions/{id}/attempts")).json()
    assert (listed["total"], [one["attempt"] for one in listed["attempts"]]) == (2, [1, 2])
    assert listed["attempts"][0]["errors"] == "boom"
    assert refused(await stage.client.get("/functions/f/executions/none/attempts")) == (404, "execution_not_found")
