"""However a run ends and whatever started it, its record says why and what it took: on a real server."""

from typing import Any

import httpx
import pytest

from tests.support.api import create_function, deploy, execute, ok
from tests.support.ends import CODE, reasons
from tests.support.runtimes import runtime_of
from tests.support.server import running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

RUN_WAIT_S = 60.0
SMALL = {"runtimeSpecification": "s-1vcpu-512mb"}
MIB = 1024 * 1024
REASONS = reasons(memory_mb=512)
#: What is asked of a whole server; what else a run may end of is in `tests/executor/test_reasons`.
ASKED = ("exit", "signal", "memory", "timeout", "disk", "threads", "raise")


def ended(client: httpx.Client, function_id: str, id: str) -> dict[str, Any]:
    """An execution, once it has ended."""
    path = f"/functions/{function_id}/executions/{id}"
    wait_for(lambda: ok(client.get(path))["status"] in ("completed", "failed"), RUN_WAIT_S, f"{id} to end")
    return ok(client.get(path))


def check_figures(record: dict[str, Any]) -> None:
    """Every run that an instance began has its figures."""
    assert record["queueTime"] >= 0
    assert isinstance(record["coldStart"], bool)
    assert 0 <= record["cpuTime"] < 60
    assert MIB < record["peakMemory"] <= 512 * MIB


def check_end(action: str, record: dict[str, Any]) -> None:
    """A record has the reason of its end and no other, what was logged and printed before, and figures."""
    assert record["requestPath"] == f"/{action}"
    assert (record["status"], record["responseStatusCode"]) == ("failed", 500)
    assert [each for each, reason in REASONS.items() if reason in record["errors"]] == [action], record["errors"]
    assert f"asked for {action}\n" in record["logs"]
    assert f"last words of {action}" in record["logs"]
    check_figures(record)


def test_every_end_has_a_reason_of_its_own_and_figures_on_both_ways() -> None:
    with running_server() as server, server.client() as client:
        python = runtime_of("python")
        # An instance that has met its limit of processes and lives on says so when something else ends it.
        for id, timeout_s in (("ends", 60), ("hurried", 2), ("crowded", 60)):
            create_function(client, id, python, entrypoint="main.py", timeout=timeout_s, **SMALL)
            assert deploy(client, id, {"main.py": CODE})["status"] == "ready"
        alone = {"timeout": "hurried", "threads": "crowded"}
        whose = {action: alone.get(action, "ends") for action in ASKED}
        queued = {
            action: ok(client.post(f"/functions/{id}/executions", json={"async": True, "path": f"/{action}"}))
            for action, id in whose.items()
        }
        for action, id in whose.items():
            check_end(action, execute(client, id, path=f"/{action}"))
            check_end(action, ended(client, id, queued[action]["$id"]))


def test_whatever_starts_a_run_its_record_has_figures() -> None:
    with running_server() as server, server.client() as client:
        listening = {"events": ["users.*.create"], "execute": ["any"], **SMALL}
        create_function(client, "runs", runtime_of("python"), entrypoint="main.py", **listening)
        assert deploy(client, "runs", {"main.py": CODE})["status"] == "ready"
        ok(client.post("/proxy/rules/function", json={"domain": "runs.functions.localhost", "functionId": "runs"}))
        answer = client.post("/functions/runs/executions", json={})
        record = ok(answer)
        check_figures(record)
        assert answer.headers["x-hearth-start"] == ("cold" if record["coldStart"] else "warm")
        assert float(answer.headers["x-hearth-queue-ms"]) == pytest.approx(record["queueTime"] * 1e3, abs=0.001)
        assert float(answer.headers["x-hearth-cpu-ms"]) == pytest.approx(record["cpuTime"] * 1e3, abs=0.001)
        assert int(answer.headers["x-hearth-peak-memory-bytes"]) == record["peakMemory"]
        visit = client.get(
            f"http://127.0.0.1:{server.port}/", headers={"host": f"runs.functions.localhost:{server.port}"}
        )
        assert (visit.status_code, visit.text) == (200, "done")
        assert not [name for name in visit.headers if name.startswith("x-hearth-")], "nothing of it for visitors"
        ok(client.post("/users", json={"userId": "ann"}))
        ok(client.post("/functions/runs/executions", json={"async": True}))

        def records() -> list[dict[str, Any]]:
            found = ok(client.get("/functions/runs/executions"))["executions"]
            return [it for it in found if it["status"] == "completed"]

        wait_for(lambda: len(records()) == 4, RUN_WAIT_S, "a run of each kind to end")
        assert sorted(it["trigger"] for it in records()) == ["event", "http", "http", "http"]
        for record in records():
            check_figures(record)
        used = ok(client.get("/functions/runs/usage", params={"range": "24h"}))
        assert used["executionsCpuTimeTotal"] == pytest.approx(sum(it["cpuTime"] for it in records()) * 1e3, abs=1)
        assert used["executionsPeakMemoryMax"] == max(it["peakMemory"] for it in records())
        assert used["executionsColdTotal"] == sum(it["coldStart"] for it in records())
