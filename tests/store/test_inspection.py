"""The look from outside at what is unfinished (`hearth.store.sql.inspection`), on both databases."""

from dataclasses import replace
from pathlib import Path

import pytest

from hearth.model.durability import IdempotencyKey
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, JobStatus
from hearth.store import SqlStore
from hearth.store.sql import inspection
from hearth.store.sql.inspection import inspect_database
from tests.store.samples import NOW, deployment, execution, job, rule

pytestmark = pytest.mark.anyio


async def test_every_unfinished_row_is_found_with_its_job(
    store: SqlStore, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for project_id in ("p", "q"):
        async with store.begin(project_id) as unit:
            await unit.executions.insert(execution("e", project_id, status=ExecutionStatus.WAITING))
            await unit.executions.insert(execution("done", project_id))
            await unit.deployments.insert(deployment("d", project_id))
            await unit.deployments.insert(deployment("gone", project_id, status=DeploymentStatus.FAILED))
    queued = job("j-e", "p", kind="execute", resource_id="e")
    await store.jobs.enqueue(queued)
    await store.jobs.enqueue(job("j-d", "q", kind="build", resource_id="d", status=JobStatus.DEAD))
    event = await store.jobs.enqueue(job("j-x", "p", kind="event", resource_id="functions"))
    found = await inspect_database(database, data_dir=tmp_path)
    assert [(it.kind, it.project_id, it.id, it.status) for it in found.unfinished] == [
        ("deployment", "p", "d", "waiting"),
        ("deployment", "q", "d", "waiting"),
        ("execution", "p", "e", "waiting"),
        ("execution", "q", "e", "waiting"),
        ("job", "p", "j-x", "event queued"),
    ]
    assert [it.job for it in found.unfinished] == [None, None, replace(queued, sequence=1), None, event]
    assert found.total == 5
    async with store.begin("p") as unit:
        await unit.rules.insert(rule("r", domain="a.test", status="unverified", logs="no record"))
        await unit.rules.insert(rule("fine", domain="b.test", status="verified"))
    key = IdempotencyKey("p", "executions.create", "caller", "k", "print", NOW, "here/1", NOW, "e9")
    await store.idempotency_keys.begin(key, NOW)
    await store.idempotency_keys.begin(replace(key, key="answered"), NOW)
    await store.idempotency_keys.finish(replace(key, key="answered"), "{}")
    more = await inspect_database(database, data_dir=tmp_path)
    assert [(it.kind, it.id, it.status, it.note, it.leased_until) for it in more.unfinished[4:6]] == [
        ("rule", "a.test", "unverified", "no record", None),
        ("request", "e9", "executions.create", "here/1", NOW),
    ]
    assert more.total == 7
    monkeypatch.setattr(inspection, "ROWS_MAX", 1)
    some = await inspect_database(database, data_dir=tmp_path)
    assert [it.kind for it in some.unfinished] == ["deployment", "execution", "rule", "request", "job"]
    assert some.total == 7
