"""The header Idempotency-Key over the real control and store: done once, answered as often as asked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.control.idempotency import ANSWER_MAX_CHARS, KEPT, LEASE
from hearth.model.prompt import Pending, PromptFuture
from hearth.model.refusals import Busy, StorageAway
from hearth.model.resources import Execution
from hearth.model.running import Invocation, Outcome, Result
from tests.api.test_error_table import FUNCTION, Stage
from tests.api.whole import Whole, whole

pytestmark = pytest.mark.anyio

KEY = {"idempotency-key": "5f3a-1"}
RUNS = "/functions/f/executions"


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


async def run(stage: Stage, body: Any = None, **headers: str) -> httpx.Response:
    return await stage.client.post(RUNS, json=body or {}, headers=KEY | headers)


def restarted(app: Whole) -> None:
    """The next server on the same database."""
    app.idempotency._owner = "here/2"


@pytest.mark.parametrize("body", [{"body": "x"}, {"body": "x", "async": True}], ids=["sync", "async"])
async def test_the_same_request_gets_the_same_answer_and_runs_once(stage: Stage, body: dict[str, Any]) -> None:
    first = await run(stage, body)
    assert first.is_success
    assert "idempotency-replayed" not in first.headers
    restarted(stage.app)
    for _ in range(2):
        again = await run(stage, body)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotency-replayed"] == "true"
    listed = (await stage.client.get(RUNS)).json()
    assert [one["$id"] for one in listed["executions"]] == [first.json()["$id"]]


async def test_without_a_key_every_request_is_done(stage: Stage) -> None:
    ids = {(await stage.client.post(RUNS, json={})).json()["$id"] for _ in range(2)}
    assert len(ids) == 2


async def test_another_request_with_the_same_key_is_refused_and_nothing_runs(stage: Stage) -> None:
    await run(stage, {"body": "x"})
    other = await run(stage, {"body": "y"})
    assert (other.status_code, other.json()["type"]) == (409, "idempotency_key_reused")
    assert len(stage.app.executor.invocations) == 1


async def test_keys_of_other_functions_and_callers_are_other_keys(stage: Stage) -> None:
    await stage.app.build("other", stage.others)
    await run(stage)
    elsewhere = await stage.client.post("/functions/other/executions", json={}, headers=KEY)
    assert elsewhere.json()["functionId"] == "other"
    async with stage.app.client(key="") as guest:
        refused = await guest.post(RUNS, json={}, headers=KEY)
    assert refused.status_code == 401, "not the answer of somebody else"


@pytest.mark.parametrize("key", ["k" * 256, "käse"])
async def test_a_bad_key_is_refused_with_what_a_good_one_is(stage: Stage, key: str) -> None:
    answer = await stage.client.post(RUNS, json={}, headers={"idempotency-key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
    assert "Idempotency-Key" in answer.json()["message"]
    assert not stage.app.executor.invocations


class Held:
    """An executor whose runs wait for `answer`."""

    def __init__(self) -> None:
        self.begun: list[Invocation] = []
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.called = asyncio.Event()

    def submit(self, invocation: Invocation) -> "asyncio.Future[Result]":
        self.begun.append(invocation)
        self.called.set()
        return asyncio.ensure_future(asyncio.shield(self.answer))


def hold(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr(stage.app.executor, "submit", held.submit)
    return held


async def test_a_request_that_meets_itself_is_told_to_come_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    held = hold(stage, monkeypatch)
    first = asyncio.create_task(run(stage))
    await held.called.wait()
    second = await run(stage)
    assert (second.status_code, second.json()["type"]) == (409, "idempotency_request_in_progress")
    assert second.headers["retry-after"] == "1"
    held.answer.set_result(Result(Outcome.COMPLETED, 200, body=b"once"))
    assert (await first).json()["responseBody"] == "once"
    assert (await run(stage)).json()["responseBody"] == "once"
    assert len(held.begun) == 1


async def test_a_caller_who_lost_the_connection_gets_the_answer_when_he_comes_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(stage, monkeypatch)
    first = asyncio.create_task(run(stage))
    await held.called.wait()
    first.cancel()
    await asyncio.wait([first])
    held.answer.set_result(Result(Outcome.COMPLETED, 200, body=b"once"))
    await stage.app.idempotency.close()
    again = await run(stage)
    assert again.json()["responseBody"] == "once"
    assert len(held.begun) == 1


async def test_what_made_nothing_may_be_sent_again_with_its_key(stage: Stage) -> None:
    assert (await stage.client.post("/functions/late/executions", json={}, headers=KEY)).status_code == 404
    made = await stage.client.post("/functions", json=FUNCTION | {"functionId": "late"})
    assert made.is_success
    deployment = (await stage.upload("late")).json()["$id"]
    await stage.app.build("late", deployment)
    assert (await stage.client.post("/functions/late/executions", json={}, headers=KEY)).status_code == 201


async def test_a_run_that_found_no_instance_is_done_when_it_is_sent_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(stage, monkeypatch)
    held.answer.set_exception(Busy("No instance came free in time.", limit="max_instances"))
    assert (await run(stage)).status_code == 429
    held.answer = asyncio.get_running_loop().create_future()
    held.answer.set_result(Result(Outcome.COMPLETED, 200, body=b"now"))
    assert (await run(stage)).json()["responseBody"] == "now"


async def abandoned(stage: Stage, monkeypatch: pytest.MonkeyPatch, *, made: bool) -> str:
    """A request whose server was killed before (or after) it had made the execution; the execution's id."""
    seen: list[str] = []
    before = stage.app.idempotency._carry_out

    async def killed(mine: Any, work: Any, recall: Any) -> str:
        seen.append(mine.subject_id)
        if made:
            await work(mine.subject_id)
        raise asyncio.CancelledError

    monkeypatch.setattr(stage.app.idempotency, "_carry_out", killed)
    call = asyncio.create_task(run(stage, {"async": True}))
    await asyncio.wait([call])
    monkeypatch.setattr(stage.app.idempotency, "_carry_out", before)
    return seen[0]


@pytest.mark.parametrize("made", [True, False], ids=["after it was made", "before it was made"])
async def test_after_a_kill_the_execution_is_found_or_made_with_the_same_id(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    id = await abandoned(stage, monkeypatch, made=made)
    assert (await run(stage, {"async": True})).status_code == 409, "its server may be alive"
    restarted(stage.app)
    answers = [await run(stage, {"async": True}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert {answer.json()["$id"] for answer in answers} == {id}
    assert (await stage.client.get(RUNS)).json()["total"] == 1


async def test_a_server_that_is_not_heard_of_for_a_lease_counts_as_dead(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await abandoned(stage, monkeypatch, made=False)
    stage.app.clock.moment += LEASE + timedelta(seconds=1)
    assert (await run(stage, {"async": True})).json()["$id"] == id


async def test_a_long_answer_is_not_kept_and_the_record_is_shown_instead(stage: Stage) -> None:
    stage.app.executor.result = Result(Outcome.COMPLETED, 200, body=b"x" * ANSWER_MAX_CHARS)
    first = (await run(stage)).json()
    again = (await run(stage)).json()
    assert again["$id"] == first["$id"]
    assert (len(first["responseBody"]), again["responseBody"]) == (ANSWER_MAX_CHARS, "")
    await stage.client.delete(f"{RUNS}/{first['$id']}")
    gone = await run(stage)
    assert (gone.status_code, gone.json()["type"]) == (409, "idempotency_answer_gone")


async def test_a_key_is_free_again_after_its_time_and_is_pruned(stage: Stage) -> None:
    first = await run(stage)
    stage.app.clock.moment += KEPT + timedelta(seconds=1)
    second = await run(stage, {"body": "other"})
    assert second.json()["$id"] != first.json()["$id"]
    assert await stage.app.store.idempotency_keys.prune(stage.app.clock.now(), 10) == 0
    stage.app.clock.moment += timedelta(seconds=1)
    assert await stage.app.store.idempotency_keys.prune(stage.app.clock.now(), 10) == 1


async def test_answers_are_encrypted_at_rest(stage: Stage, tmp_path: Path) -> None:
    stage.app.executor.result = Result(Outcome.COMPLETED, 200, body=b"a very secret answer")
    await run(stage)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("hearth.db*"))
    assert b"idempotency_keys" in stored
    assert b"a very secret answer" not in stored


async def test_an_event_is_published_once(stage: Stage) -> None:
    heard: list[str] = []
    stage.app.events.subscribe(lambda occurrence: heard.append(occurrence.event))
    body = {"event": "users.5f3a.create", "payload": {"a": 1}}
    answers = [await stage.client.post("/events", json=body, headers=KEY) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert heard.count("users.5f3a.create") == 1
    other = await stage.client.post("/events", json=body | {"payload": {}}, headers=KEY)
    assert other.status_code == 409


async def test_of_many_at_once_one_is_done(stage: Stage) -> None:
    answers = await asyncio.gather(*(run(stage, {"async": True}) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["$id"] for answer in answers if answer.status_code == 202}) == 1
    assert (await stage.client.get(RUNS)).json()["total"] == 1


class Away:
    """A store that takes no records, and with `keys` no notes about keys either, until it `is_back`."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch, *, keys: bool) -> None:
        self._fault = StorageAway("no", reason="its disk is full")
        self._is_away = True
        self._submit, self._finish = stage.app.store.execution_log.submit, stage.app.store.idempotency_keys.finish
        monkeypatch.setattr(stage.app.store.execution_log, "submit", self.submit)
        if keys:
            monkeypatch.setattr(stage.app.store.idempotency_keys, "finish", self.finish)

    def is_back(self) -> None:
        self._is_away = False

    def submit(self, execution: Execution) -> Pending[Execution]:
        if not self._is_away:
            return self._submit(execution)
        failed: PromptFuture[Execution] = PromptFuture()
        failed.set_exception(self._fault)
        return failed

    async def finish(self, mine: Any, answer: str) -> None:
        if self._is_away:
            raise self._fault
        await self._finish(mine, answer)


@pytest.mark.parametrize("keys", [False, True], ids=["records", "records and keys"])
async def test_a_run_that_could_not_be_recorded_keeps_its_key_and_is_not_done_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, keys: bool
) -> None:
    away = Away(stage, monkeypatch, keys=keys)
    assert (await run(stage)).status_code == 503
    id = stage.app.executor.invocations[0].execution_id
    again = await run(stage)
    if keys:
        assert (again.status_code, again.json()["type"]) == (409, "idempotency_request_in_progress")
    else:
        assert (again.status_code, again.json()["$id"]) == (201, id)
    stage.app.clock.moment += LEASE + timedelta(seconds=1)
    away.is_back()
    if keys:  # noted by itself: the next server finds it
        async with asyncio.timeout(20):
            while stage.app.idempotency._binding is not None:  # noqa: ASYNC110 - bounded above
                await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while (await stage.client.get(f"{RUNS}/{id}")).status_code != 200:  # noqa: ASYNC110 - bounded above
            await asyncio.sleep(0.01)
    restarted(stage.app)
    last = await run(stage)
    assert (last.status_code, last.json()["$id"], last.headers["idempotency-replayed"]) == (201, id, "true")
    assert len(stage.app.executor.invocations) == 1


async def test_a_stop_notes_the_keys_that_could_not_be_noted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(stage, monkeypatch, keys=True)
    assert (await run(stage)).status_code == 503
    assert stage.app.idempotency._binding is not None
    away.is_back()
    await stage.app.idempotency.close()
    restarted(stage.app)
    assert (await run(stage)).json()["$id"] == stage.app.executor.invocations[0].execution_id
