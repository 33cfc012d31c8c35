"""Requests and responses that a function has kept, and replays of them: every way a run is asked for, and ends."""

import asyncio
from typing import Any

import pytest

from hearth.control import kept_bodies
from hearth.control.bodies import BodiesControl
from hearth.control.kept_bodies import KeptBodies
from hearth.control.replays import Replay, ReplaysControl
from hearth.model.bodies import Bodies, Body
from hearth.model.function_settings import FunctionSettings
from hearth.model.refusals import Refusal, StorageAway, Unavailable
from hearth.model.resources import Execution
from hearth.model.running import Outcome, Result
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, Trigger
from tests.control.support import World
from tests.control.test_dispatcher import KEY, WAIT_S, dispatching, ended, until
from tests.control.test_retention import DAY_S, retention
from tests.control.test_retrying import BROKEN, Scripted, waits_again
from tests.control.test_users_runs import ready, user

pytestmark = pytest.mark.anyio

BINARY = b"\x00\xff body"
ANSWER = Result(Outcome.COMPLETED, 201, (("x-one", "1"), ("x-one", "2")), b"answer \xfe", "logged\n", "", 0.01)


async def storing(here: World, answer: Result = ANSWER, **settings: Any) -> None:
    """The function has an active deployment, gives this answer, and has bodies kept."""
    await ready(here)
    here.executor.answer = asyncio.get_running_loop().create_future()
    here.executor.answer.set_result(answer)
    async with here.store.begin("p") as unit:
        await unit.function_settings.put("f", FunctionSettings(**{"store_bodies": True} | settings))
        await unit.functions.update("f", execute=("any",))
    here.runnables.drop("p", "f")


def reading(here: World) -> BodiesControl:
    return BodiesControl(store=here.store, runnables=here.runnables, bodies=here.bodies)


def replaying(here: World) -> ReplaysControl:
    return ReplaysControl(
        bodies=reading(here),
        executions=here.executions,
        queued=here.queued,
        runnables=here.runnables,
        mint_user_jwt=lambda *claims: "/".join(map(str, claims)),
    )


async def kept(here: World, id: str) -> Bodies:
    """What the database has of an execution, once it has it."""
    async with asyncio.timeout(WAIT_S):
        while True:
            async with here.store.view("p") as unit:
                found = await unit.bodies.get("f", id)
            if found is not None:
                return found
            await asyncio.sleep(0.005)


async def run(here: World, **request: Any) -> Execution:
    request = {"method": "PUT", "path": "/a?b", "headers": {"X-Own": "h"}, "body": BINARY} | request
    return (await here.executions.create("p", request.pop("actor", KEY), "f", **request)).execution


async def test_a_synchronous_run_is_kept_as_it_was_asked_and_answered(here: World) -> None:
    await storing(here)
    execution = await run(here, headers={"X-Own": "h", "x-appwrite-key": "stolen", "Cookie": "c"}, client_ip="1.2.3.4")
    before = await reading(here).response("p", KEY, "f", execution.id)
    found = await kept(here, execution.id)
    assert found.response == before, "it is there from the first moment on"
    request, response = found.request, found.response
    assert (request.method, request.path, request.body) == ("PUT", "/a?b", Body(BINARY, len(BINARY)))
    assert (request.headers, request.client_ip) == ({"x-own": "h", "cookie": "c"}, "1.2.3.4")
    assert response is not None
    assert (response.status_code, response.headers) == (201, ANSWER.headers)
    assert (response.body.content, response.body.is_truncated) == (ANSWER.body, False)


async def test_a_function_that_did_not_ask_has_nothing_kept(here: World) -> None:
    await storing(here, store_bodies=False)
    execution = await run(here)
    async with dispatching(here):
        later = await run(here, is_async=True)
        await ended(here, later.id)
    await here.bodies.close()
    async with here.store.view("p") as unit:
        assert await unit.bodies.get("f", execution.id) is None
        assert await unit.bodies.get("f", later.id) is None
    with pytest.raises(Refusal, match="`storeBodies` is off"):
        await reading(here).request("p", KEY, "f", execution.id)
    assert await reading(here).response_of(execution) is None


async def test_the_result_of_a_background_run_is_there_when_it_has_ended(here: World) -> None:
    await storing(here)
    here.executor.answer = asyncio.get_running_loop().create_future()
    async with dispatching(here):
        execution = await run(here, is_async=True, actor=user())
        await until(lambda: here.executor.invoked)
        with pytest.raises(Refusal, match=r"The execution is processing: .* when it has ended"):
            await reading(here).response("p", KEY, "f", execution.id)
        here.executor.answer.set_result(ANSWER)
        final = await ended(here, execution.id)
        async with here.store.view("p") as unit:
            found = await unit.bodies.get("f", execution.id)
    assert found is not None, "it was stored before the end was"
    assert found.response is not None
    assert found.response.body.content == ANSWER.body
    assert (found.request.body.content, found.request.user_id, found.request.real_user_id) == (BINARY, "ann", "ann")
    assert await reading(here).response_of(final) == found.response


async def test_a_visit_is_kept_and_of_a_streamed_response_as_much_as_of_any_other(here: World) -> None:
    await storing(here, bodies_max_bytes=4)
    here.executor.answer = asyncio.get_running_loop().create_future()
    visiting = asyncio.create_task(
        here.executions.visit("p", "f", method="GET", path="/v", headers={}, body=b"12345", client_ip="")
    )
    await until(lambda: here.executor.invoked)

    class Control:
        def consumed(self, size: int) -> None: ...
        def abort(self, reason: str) -> None: ...

    receiver = here.executor.invoked[0].receiver
    assert receiver is not None
    receiver.on_begin(200, (("x-h", "1"),), Control())
    receiver.on_body(b"abc")
    receiver.on_body(b"def")
    view = await visiting
    here.executor.answer.set_result(Result(Outcome.COMPLETED, 200, (("x-h", "1"),)))
    found = await kept(here, view.execution.id)
    assert found.response is not None
    assert (found.response.headers, found.response.body.content, found.response.body.size) == (
        (("x-h", "1"),),
        b"abcd",
        6,
    )
    assert (found.request.path, found.request.body.content, found.request.body.size) == ("/v", b"1234", 5)


async def test_a_run_without_an_answer_has_its_request_kept(here: World) -> None:
    await storing(here)
    here.executor.answer = asyncio.get_running_loop().create_future()
    here.executor.answer.set_exception(Unavailable("no room"))
    with pytest.raises(Unavailable):
        await run(here)
    found = await kept(here, here.executor.invoked[0].execution_id)
    assert (found.request.body.content, found.response) == (BINARY, None)
    with pytest.raises(Refusal, match="gave no response"):
        await reading(here).response("p", KEY, "f", found.execution_id)


async def test_of_several_attempts_the_last_one_is_kept(here: World) -> None:
    await storing(here, retry_max_attempts=2, retry_backoff_s=30)
    here.queued._spread = lambda: 0.0
    Scripted(here, BROKEN, ANSWER)
    async with dispatching(here):
        execution = await run(here, is_async=True)
        await waits_again(here, execution.id, "it broke\n")
        async with here.store.view("p") as unit:
            assert await unit.bodies.get("f", execution.id) is None
        here.clock.move(31)
        here.store._jobs_may_wait()  # type: ignore[attr-defined]
        await ended(here, execution.id)
    found = await kept(here, execution.id)
    assert found.response is not None
    assert found.response.body.content == ANSWER.body


async def test_what_was_lost_with_its_server_has_its_request_kept(here: World) -> None:
    await storing(here)
    execution = await run(here, is_async=True)
    [claimed] = await here.store.execution_queue.claim("elsewhere/x", ["execute"], 1, 1.0)
    assert claimed.execution is not None
    here.clock.move(60)
    await here.reaper.sweep()
    assert (await ended(here, execution.id)).status is ExecutionStatus.FAILED
    found = await kept(here, execution.id)
    assert (found.request.body.content, found.response) == (BINARY, None)


async def test_bodies_wait_for_a_database_that_is_away_and_for_the_record_of_their_run(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storing(here)
    await here.repairs.at_start()
    away = StorageAway("no", reason="its disk is full")
    monkeypatch.setattr(kept_bodies, "_PAUSE_S", 0.01)
    keep, submit = here.store.keep_bodies, here.store.execution_log.submit
    given: list[str] = []

    async def refused(bodies: Any) -> None:
        given.extend(each.execution_id for each in bodies)
        raise away

    def unrecorded(execution: Execution) -> "asyncio.Future[Execution]":
        answer: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        answer.set_exception(away)
        return answer

    monkeypatch.setattr(here.store, "keep_bodies", refused)
    recorded = await run(here)
    await until(lambda: given.count(recorded.id) >= 2)
    monkeypatch.setattr(here.store.execution_log, "submit", unrecorded)
    with pytest.raises(StorageAway):
        await run(here)
    monkeypatch.setattr(here.store, "keep_bodies", keep)
    assert (await kept(here, recorded.id)).request.body.content == BINARY
    late = here.executor.invoked[1].execution_id
    assert here.bodies.pending("p", late) is None, "it has no record yet"
    monkeypatch.setattr(here.store.execution_log, "submit", submit)
    assert (await kept(here, late)).request.body.content == BINARY


async def test_what_waits_in_memory_is_bounded_and_is_written_at_the_stop(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storing(here, bodies_max_bytes=10)
    monkeypatch.setattr(kept_bodies, "PENDING_MAX_BYTES", 50_000)
    monkeypatch.setattr(kept_bodies, "COLLECT_S", 3_600.0)
    small, large, again = await run(here), await run(here, body=bytes(60_000)), await run(here)
    await here.bodies.close()
    async with here.store.view("p") as unit:
        assert await unit.bodies.get("f", small.id) is not None
        assert await unit.bodies.get("f", large.id) is None
        assert await unit.bodies.get("f", again.id) is not None
    assert here.bodies._bytes == 0


async def test_batches_are_of_one_project_and_bounded_in_bytes_and_number(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storing(here)
    monkeypatch.setattr(kept_bodies, "COLLECT_S", 3_600.0)
    monkeypatch.setattr(kept_bodies, "BATCH_BYTES", 7_000)
    sizes: list[int] = []
    keep = here.store.keep_bodies

    async def noted(bodies: Any) -> None:
        sizes.append(len(bodies))
        await keep(bodies)

    monkeypatch.setattr(here.store, "keep_bodies", noted)
    for _ in range(7):
        await run(here, body=b"")
    await run(here, body=bytes(20_000))
    await here.bodies.close()
    assert sizes == [3, 3, 1, 1]


async def test_bodies_are_removed_after_their_days_also_when_none_are_kept_any_more(here: World) -> None:
    await storing(here, bodies_retention_days=2)
    old = await run(here)
    await kept(here, old.id)
    here.clock.move(DAY_S)
    new = await run(here)
    await kept(here, new.id)
    async with here.store.begin("p") as unit:
        await unit.function_settings.put("f", FunctionSettings(bodies_retention_days=2))
    here.clock.move(DAY_S + 1)
    await retention(here).sweep()
    async with here.store.view("p") as unit:
        assert await unit.executions.get("f", old.id) is not None
        assert await unit.bodies.get("f", old.id) is None
        assert await unit.bodies.get("f", new.id) is not None
    with pytest.raises(Refusal, match="execution_body_not_found"):
        await replaying(here).replay("p", KEY, "f", old.id)


async def test_only_keys_and_admins_read_and_replay(here: World) -> None:
    await storing(here)
    execution = await run(here, actor=user())
    for reads in (reading(here).request, reading(here).response, replaying(here).replay):
        with pytest.raises(Refusal, match="general_unauthorized_scope"):
            await reads("p", user(), "f", execution.id)  # type: ignore[operator]
        with pytest.raises(Refusal, match="execution_not_found"):
            await reads("p", KEY, "f", "none")  # type: ignore[operator]
        with pytest.raises(Refusal, match="function_not_found"):
            await reads("p", KEY, "none", execution.id)  # type: ignore[operator]


async def replay_of(here: World, original: Execution, answer: Result, **more: Any) -> Replay:
    here.executor.answer = asyncio.get_running_loop().create_future()
    here.executor.answer.set_result(answer)
    return await replaying(here).replay("p", KEY, "f", original.id, **more)


async def second_deployment(here: World) -> None:
    await here.deploy("d2")
    async with here.store.begin("p") as unit:
        for status in (DeploymentStatus.PROCESSING, DeploymentStatus.BUILDING, DeploymentStatus.READY):
            await unit.deployments.move("d2", status)


async def test_a_replay_runs_the_same_request_with_another_deployment_and_tells_what_differs(here: World) -> None:
    await storing(here)
    await second_deployment(here)
    original = await run(here, actor=user(impersonator_id="boss"), client_ip="1.2.3.4")
    other = Result(Outcome.COMPLETED, 500, (("x-one", "1"), ("x-two", "2")), b"different", "logged\nmore\n", "", 0.02)
    done = await replay_of(here, original, other, deployment_id="d2")
    first, again = here.executor.invoked
    assert (again.method, again.path, again.body) == (first.method, first.path, first.body)
    assert again.template.key.deployment_id == "d2"
    same = {"x-own", "x-appwrite-user-id", "x-appwrite-trigger", "x-appwrite-client-ip"}
    assert {name: again.headers[name] for name in same} == {name: first.headers[name] for name in same}
    assert again.headers["x-hearth-replay-of"] == original.id
    assert "x-hearth-replay-of" not in first.headers
    assert again.headers["x-appwrite-user-jwt"] == "p/boss//75"
    execution = done.execution
    assert (execution.deployment_id, execution.status) == ("d2", ExecutionStatus.FAILED)
    assert dict(execution.request_headers)["x-hearth-replay-of"] == original.id
    assert execution.permissions == (), "the user does not find it among his own"
    it = done.comparison
    assert it is not None
    assert not it.is_equal
    assert it.status_codes == (201, 500)
    assert it.durations_s == (0.01, 0.02)
    assert [(one.name, one.before, one.after) for one in it.headers] == [
        ("x-one", ("1", "2"), ("1",)),
        ("x-two", (), ("2",)),
    ]
    assert (it.body.is_equal, it.body.is_text) == (False, False)
    assert it.logs.diff.splitlines()[2:] == ["@@ -1 +1,2 @@", " logged", "+more"]
    assert it.errors.is_equal


async def test_a_replay_of_the_same_deployment_that_answers_the_same_is_equal(here: World) -> None:
    await storing(here)
    original = await run(here)
    done = await replay_of(here, original, ANSWER)
    assert done.comparison is not None
    assert done.comparison.is_equal
    assert done.execution.id != original.id
    again = await replaying(here).replay("p", KEY, "f", done.execution.id)
    assert dict(again.execution.request_headers)["x-hearth-replay-of"] == done.execution.id


async def test_a_replay_in_the_background_runs_the_deployment_that_was_named(here: World) -> None:
    await storing(here)
    await second_deployment(here)
    original = await run(here)
    async with dispatching(here):
        done = await replay_of(here, original, ANSWER, deployment_id="d2", is_async=True)
        assert done.comparison is None
        final = await ended(here, done.execution.id)
    assert (final.deployment_id, final.status, final.trigger) == ("d2", ExecutionStatus.COMPLETED, Trigger.HTTP)
    assert dict(final.request_headers)["x-hearth-replay-of"] == original.id
    again = here.executor.invoked[1]
    assert (again.template.key.deployment_id, again.body) == ("d2", BINARY)
    assert again.headers["x-hearth-replay-of"] == original.id


async def test_what_cannot_be_replayed_is_refused_with_the_reason(here: World) -> None:
    await storing(here, bodies_max_bytes=3)
    original = await run(here, body=b"12345")
    with pytest.raises(Refusal, match="Only the first 3 of the 5 bytes") as refused:
        await replaying(here).replay("p", KEY, "f", original.id)
    assert refused.value.type == "execution_body_truncated"
    short = await run(here, body=b"12")
    with pytest.raises(Refusal, match="deployment_not_found"):
        await replaying(here).replay("p", KEY, "f", short.id, deployment_id="none")
    await here.deploy("d2")
    with pytest.raises(Refusal, match="build_not_ready"):
        await replaying(here).replay("p", KEY, "f", short.id, deployment_id="d2")
    assert len(here.executor.invoked) == 2


async def test_a_caller_cannot_say_that_his_run_is_a_replay(here: World) -> None:
    await storing(here)
    headers = {"X-Hearth-Replay-Of": "something"}
    execution = await run(here, headers=headers)
    async with dispatching(here):
        later = await ended(here, (await run(here, headers=headers, is_async=True)).id)
    for record in (execution, later):
        assert "x-hearth-replay-of" not in dict(record.request_headers)
    assert all("x-hearth-replay-of" not in each.headers for each in here.executor.invoked)


async def test_a_store_that_takes_its_time_is_not_waited_for_without_end(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storing(here)
    monkeypatch.setattr(kept_bodies, "STORED_WAIT_S", 0.01)
    never = asyncio.Event()

    async def waits(bodies: Any) -> None:
        await never.wait()

    monkeypatch.setattr(here.store, "keep_bodies", waits)
    async with dispatching(here):
        execution = await run(here, is_async=True)
        assert (await ended(here, execution.id)).status is ExecutionStatus.COMPLETED
        assert await reading(here).response("p", KEY, "f", execution.id) is not None
    monkeypatch.undo()
    await here.bodies.close()
    assert isinstance(here.bodies, KeptBodies)
    assert (await kept(here, execution.id)).response is not None
