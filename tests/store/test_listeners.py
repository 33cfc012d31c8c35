"""Functions that listen to events (`hearth.ports.Listeners`), on both databases."""

import pytest

from hearth.store import SqlStore
from tests.store.samples import function

pytestmark = pytest.mark.anyio


async def test_pages_hold_functions_with_events_of_one_project_or_of_all(store: SqlStore) -> None:
    for project_id in ("p", "q"):
        async with store.begin(project_id) as unit:
            await unit.functions.insert(function("silent", project_id))
            for number in range(3):
                await unit.functions.insert(
                    function(f"f{number}", project_id, events=("users.*", "teams.*"), deployment_id="d", timeout_s=9)
                )
    for project_id, wanted in (("", "pq"), ("q", "q")):
        found, after = [], -1
        while page := await store.listeners.page(after, 2, project_id):
            found += page
            after = page[-1].sequence
        assert [(it.project_id, it.function_id) for it in found] == [(p, f"f{n}") for p in wanted for n in range(3)]
        assert {(it.events, it.deployment_id, it.timeout_s) for it in found} == {(("users.*", "teams.*"), "d", 9)}
