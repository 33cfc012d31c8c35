"""Every (endpoint, error type) pair of the Functions service, over the real control and store.

Contract: functions-api 5. The table is complete by construction: what a route says it may refuse
(`Route.refusals`) has to be provoked here, and is compared in status, type and form. Left out is what this server
cannot meet: `storage_invalid_file` (nothing is written to a shared temporary folder) and failing storage, which is a
fault of ours and is answered 500 like every other.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.api.openapi.answers import refusals_of
from hearth.api.routes import Facts
from hearth.api.settings import ApiSettings
from hearth.api.table import all_routes
from hearth.control.views import ControlLimits
from hearth.model.running import Result
from hearth.model.statuses import DeploymentStatus
from tests.api.support import NOW
from tests.api.whole import PROJECT_ID, AllRuntimes, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROUTES = {
    route.name: route for route in all_routes(Facts(runtimes=("python-3.12",), specifications=("s-1vcpu-512mb",)))
}
FUNCTION = {"name": "F", "runtime": "python-3.12", "entrypoint": "main.py", "execute": ["users"]}
CODE = gzip.compress(b"not read by anything here")
TOO_BIG = ControlLimits().source_size_bytes + 1


class Stage:
    """A project with three functions: `f` and `other` with a deployment each, `bare` with nothing at all."""

    def __init__(self, app: Whole, client: httpx.AsyncClient) -> None:
        self.app, self.client = app, client
        self.deployment = self.others = ""

    async def prepare(self) -> None:
        for id in ("f", "other", "bare"):
            changes = {"entrypoint": ""} if id == "bare" else {}
            assert (await self.client.post("/functions", json=FUNCTION | {"functionId": id} | changes)).is_success
        self.deployment = (await self.upload()).json()["$id"]
        self.others = (await self.upload("other")).json()["$id"]
        for id, key, secret in (("v", "KEY", True), ("w", "OTHER", False)):
            body = {"variableId": id, "key": key, "value": "x", "secret": secret}
            assert (await self.client.post("/functions/f/variables", json=body)).is_success

    async def upload(
        self, function: str = "f", *, name: str = "code.tar.gz", code: bytes | None = CODE, **headers: str
    ) -> httpx.Response:
        """One upload request; `code` None sends a form without the file."""
        return await self.client.post(
            f"/functions/{function}/deployments",
            data={"activate": "true"},
            files={"code": (name, code)} if code is not None else {"x": (None, "y")},
            headers={key.replace("_", "-"): value for key, value in headers.items()},
        )

    async def build(self) -> None:
        """Make the deployment of `f` ready and active."""
        await self.app.build("f", self.deployment)

    async def waiting(self) -> str:
        """An execution that has not run yet."""
        await self.build()
        answer = await self.client.post("/functions/f/executions", json={"async": True})
        assert answer.status_code == 202
        return str(answer.json()["$id"])

    async def link(self, repository: str = "r", branch: str = "") -> None:
        """Link `f` to a repository, as a function from elsewhere may be: its installation is not known here."""
        async with self.app.store.begin(PROJECT_ID) as unit:
            await unit.functions.update(
                "f", installation_id="i", provider_repository_id=repository, provider_branch=branch
            )

    async def install(self) -> None:
        """The installation `i` at a plain git server."""
        body = {"installationId": "i", "provider": "git", "baseUrl": "https://git.test/team"}
        made = await self.client.post("/vcs/installations", json=body)
        assert made.status_code == 201, made.text

    async def break_active(self) -> None:
        """An active deployment whose build is not ready: only possible if its status is changed behind our back."""
        async with self.app.store.begin(PROJECT_ID) as unit:
            await unit.deployments.move(self.deployment, DeploymentStatus.PROCESSING)
            await unit.functions.update("f", deployment_id=self.deployment, deployment_created_at=NOW)


Provoke = Callable[[Stage], Awaitable[httpx.Response]]
#: What a case may change before the application is composed.
Prepare = Callable[[pytest.MonkeyPatch], None]


def send(method: str, path: str, body: Any = None) -> Provoke:
    """A request with nothing to arrange; `{d}` and `{o}` stand for the deployments of `f` and `other`."""

    async def provoke(stage: Stage) -> httpx.Response:
        def fill(text: str) -> str:
            return text.replace("{d}", stage.deployment).replace("{o}", stage.others)

        content = None if body is None else json.loads(fill(json.dumps(body)))
        return await stage.client.request(method, fill(path), json=content)

    return provoke


def upload(function: str = "f", **given: Any) -> Provoke:
    return lambda stage: stage.upload(function, **given)


VCS = {
    "name": "F",
    "runtime": "python-3.12",
    "installationId": "i",
    "providerRepositoryId": "r",
    "providerBranch": "main",
}
TEMPLATE = {"repository": "r", "owner": "o", "rootDirectory": "", "type": "branch", "reference": "main"}
BRANCH = {"type": "branch", "reference": "main"}
E, D, V, X = "/functions/f", "/functions/f/deployments", "/functions/f/variables", "/functions/f/executions"
NO = "/functions/none"
LATER = "2026-11-24T10:21:30Z"  # seconds are not zero

#: (route, type) and what provokes it where nothing has to be arranged.
PLAIN: list[tuple[str, str, Provoke]] = [
    ("functions.create", "installation_not_found", send("POST", "/functions", {"functionId": "n", **VCS})),
    (
        "functions.create",
        "general_argument_invalid",
        send("POST", "/functions", {"functionId": "n", **FUNCTION, "providerRepositoryId": "r"}),
    ),
    ("functions.create", "function_already_exists", send("POST", "/functions", {"functionId": "f", **FUNCTION})),
    ("functions.list", "general_argument_invalid", send("GET", '/functions?queries[]={"method":"regex"}')),
    (
        "functions.list",
        "general_cursor_not_found",
        send("GET", '/functions?queries[]={"method":"cursorAfter","values":["no"]}'),
    ),
    ("functions.get", "function_not_found", send("GET", NO)),
    ("functions.update", "function_not_found", send("PUT", NO, {"name": "n"})),
    ("functions.update", "installation_not_found", send("PUT", E, VCS)),
    ("functions.update", "general_argument_invalid", send("PUT", E, {"name": "n", "providerRepositoryId": "r"})),
    ("functions.set_deployment", "function_not_found", send("PATCH", NO + "/deployment", {"deploymentId": "{d}"})),
    ("functions.set_deployment", "deployment_not_found", send("PATCH", E + "/deployment", {"deploymentId": "none"})),
    ("functions.set_deployment", "deployment_not_found", send("PATCH", E + "/deployment", {"deploymentId": "{o}"})),
    ("functions.set_deployment", "build_not_ready", send("PATCH", E + "/deployment", {"deploymentId": "{d}"})),
    ("functions.delete", "function_not_found", send("DELETE", NO, {})),
    ("deployments.create", "function_not_found", upload("none")),
    ("deployments.create", "function_entrypoint_missing", upload("bare")),
    ("deployments.create", "storage_file_empty", upload(code=None)),
    ("deployments.create", "storage_file_empty", upload(code=b"")),
    ("deployments.create", "storage_file_type_unsupported", upload(name="code.zip")),
    ("deployments.create", "storage_invalid_content_range", upload(content_range="bytes 5-3/10")),
    ("deployments.create", "storage_invalid_content_range", upload(content_range="bytes 0-20/10")),
    ("deployments.create", "storage_invalid_content_range", upload(content_range="chunks 0-1/10")),
    ("deployments.create", "deployment_invalid_file_size", upload(content_range=f"bytes 0-9/{TOO_BIG}")),
    (
        "deployments.create",
        "storage_invalid_appwrite_id",
        upload(content_range=f"bytes 0-{len(CODE) - 1}/{len(CODE)}", x_appwrite_id="_no id"),
    ),
    (
        "deployments.duplicate",
        "function_not_found",
        send("POST", NO + "/deployments/duplicate", {"deploymentId": "{d}"}),
    ),
    ("deployments.duplicate", "deployment_not_found", send("POST", D + "/duplicate", {"deploymentId": "none"})),
    ("deployments.duplicate", "deployment_not_found", send("POST", D + "/duplicate", {"deploymentId": "{o}"})),
    (
        "deployments.create_template",
        "function_not_found",
        send("POST", NO + "/deployments/template", TEMPLATE),
    ),
    (
        "deployments.create_template",
        "general_argument_invalid",
        send("POST", D + "/template", TEMPLATE | {"type": "x"}),
    ),
    ("deployments.create_vcs", "function_not_found", send("POST", NO + "/deployments/vcs", BRANCH)),
    ("deployments.create_vcs", "installation_not_found", send("POST", D + "/vcs", BRANCH)),
    ("deployments.create_vcs", "general_argument_invalid", send("POST", D + "/vcs", BRANCH | {"type": "tag"})),
    ("functions.get_template", "function_template_not_found", send("GET", "/functions/templates/none")),
    ("deployments.list", "function_not_found", send("GET", NO + "/deployments")),
    ("deployments.list", "general_query_invalid", send("GET", D + "?search=x")),
    ("deployments.get", "function_not_found", send("GET", NO + "/deployments/{d}")),
    ("deployments.get", "deployment_not_found", send("GET", D + "/none")),
    ("deployments.get", "deployment_not_found", send("GET", D + "/{o}")),
    ("deployments.download", "function_not_found", send("GET", NO + "/deployments/{d}/download")),
    ("deployments.download", "deployment_not_found", send("GET", D + "/none/download")),
    ("deployments.download", "deployment_not_found", send("GET", D + "/{o}/download")),
    ("deployments.download", "deployment_not_found", send("GET", D + "/{d}/download?type=output")),
    ("deployments.cancel", "function_not_found", send("PATCH", NO + "/deployments/{d}/status", {})),
    ("deployments.cancel", "deployment_not_found", send("PATCH", D + "/none/status", {})),
    ("deployments.cancel", "deployment_not_found", send("PATCH", D + "/{o}/status", {})),
    ("deployments.delete", "function_not_found", send("DELETE", NO + "/deployments/{d}", {})),
    ("deployments.delete", "deployment_not_found", send("DELETE", D + "/none", {})),
    ("deployments.delete", "deployment_not_found", send("DELETE", D + "/{o}", {})),
    ("executions.create", "general_bad_request", send("POST", X, {"scheduledAt": "2026-11-24T11:00:00Z"})),
    ("executions.create", "general_bad_request", send("POST", X, {"async": True, "scheduledAt": LATER})),
    ("executions.create", "general_bad_request", send("POST", X, {"async": True, "scheduledAt": "soon"})),
    ("executions.create", "general_argument_invalid", send("POST", X, {"headers": {"x-appwrite-key": "mine"}})),
    ("executions.create", "general_argument_invalid", send("POST", X, {"headers": {"-a": "b"}})),
    ("executions.create", "function_not_found", send("POST", NO + "/executions", {})),
    ("executions.create", "deployment_not_found", send("POST", "/functions/bare/executions", {})),
    ("executions.list", "function_not_found", send("GET", NO + "/executions")),
    ("executions.get", "function_not_found", send("GET", NO + "/executions/e")),
    ("executions.get", "execution_not_found", send("GET", X + "/none")),
    ("executions.delete", "function_not_found", send("DELETE", NO + "/executions/e", {})),
    ("executions.delete", "execution_not_found", send("DELETE", X + "/none", {})),
    ("variables.create", "function_not_found", send("POST", NO + "/variables", {"key": "A", "value": ""})),
    ("variables.create", "variable_already_exists", send("POST", V, {"key": "KEY", "value": ""})),
    ("variables.create", "variable_already_exists", send("POST", V, {"variableId": "v", "key": "NEW", "value": ""})),
    ("variables.list", "function_not_found", send("GET", NO + "/variables")),
    ("variables.get", "function_not_found", send("GET", NO + "/variables/v")),
    ("variables.get", "variable_not_found", send("GET", V + "/none")),
    ("variables.get", "variable_not_found", send("GET", "/functions/other/variables/v")),
    ("variables.update", "function_not_found", send("PUT", NO + "/variables/v", {"key": "A"})),
    ("variables.update", "variable_not_found", send("PUT", V + "/none", {"key": "A"})),
    ("variables.update", "variable_not_found", send("PUT", "/functions/other/variables/v", {"key": "A"})),
    ("variables.update", "variable_already_exists", send("PUT", V + "/w", {"key": "KEY"})),
    ("variables.update", "variable_cannot_unset_secret", send("PUT", V + "/v", {"secret": False})),
    ("variables.update", "general_argument_invalid", send("PUT", V + "/v", {})),
    ("variables.delete", "function_not_found", send("DELETE", NO + "/variables/v", {})),
    ("variables.delete", "variable_not_found", send("DELETE", V + "/none", {})),
    ("variables.delete", "variable_not_found", send("DELETE", "/functions/other/variables/v", {})),
]


async def creations_used_up(stage: Stage) -> httpx.Response:
    return await stage.client.post("/functions", json=FUNCTION | {"functionId": "fourth"})


async def runtime_not_installed(stage: Stage) -> httpx.Response:
    return await stage.client.post("/functions", json=FUNCTION | {"functionId": "n", "runtime": "ruby-3.3"})


async def runtime_vanished(stage: Stage) -> httpx.Response:
    """Refused before the deployment, which this function does not have either (5.15, 5 before 6)."""
    async with stage.app.store.begin(PROJECT_ID) as unit:
        await unit.functions.update("bare", runtime="cobol-60")
    return await stage.client.post("/functions/bare/executions", json={})


async def connected_template(stage: Stage) -> httpx.Response:
    """A function that was linked to a repository whose installation is gone."""
    await stage.link()
    return await stage.client.post(D + "/template", json=TEMPLATE)


async def connected_vcs(stage: Stage) -> httpx.Response:
    await stage.link()
    return await stage.client.post(D + "/vcs", json=BRANCH)


async def vcs_without_repository(stage: Stage) -> httpx.Response:
    await stage.install()
    await stage.link(repository="")
    return await stage.client.post(D + "/vcs", json=BRANCH)


async def vcs_of_a_missing_repository(stage: Stage) -> httpx.Response:
    await stage.install()
    await stage.link(repository="missing.git")
    return await stage.client.post(D + "/vcs", json=BRANCH)


async def template_for_a_missing_repository(stage: Stage) -> httpx.Response:
    await stage.install()
    await stage.link(repository="missing.git", branch="main")
    return await stage.client.post(D + "/template", json=TEMPLATE)


async def duplicate_without_installation(stage: Stage) -> httpx.Response:
    """A source that was never fetched, and can be fetched by nobody any more."""
    await stage.install()
    await stage.link(repository="r.git")
    made = await stage.client.post(D + "/vcs", json=BRANCH)
    assert made.status_code == 202, made.text
    assert (await stage.client.delete("/vcs/installations/i")).status_code == 204
    return await stage.client.post(D + "/duplicate", json={"deploymentId": made.json()["$id"]})


async def id_of_another_function(stage: Stage) -> httpx.Response:
    size = len(CODE)
    return await stage.upload(content_range=f"bytes 0-{size - 1}/{size}", x_appwrite_id=stage.others)


async def lock_not_obtained(stage: Stage) -> httpx.Response:
    """Two requests of one upload while nothing can be written: the first holds its lock, the second gives up."""
    size = len(CODE)
    async with stage.app.store.begin(PROJECT_ID) as unit:
        await unit.functions.update("bare", name="being changed")
        sent = [
            asyncio.create_task(stage.upload(content_range=f"bytes 0-{size - 1}/{size}", x_appwrite_id="mine"))
            for _ in range(2)
        ]
        done, waiting = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    assert [(await task).status_code for task in waiting] == [202]
    (refused,) = done
    answer = await refused
    assert answer.headers["retry-after"] == "5"
    return answer


async def download_without_key(stage: Stage) -> httpx.Response:
    async with stage.app.client("") as guest:
        return await guest.get(f"{D}/{stage.deployment}/download")


async def bad_range(stage: Stage) -> httpx.Response:
    answers = [
        await stage.client.get(f"{D}/{stage.deployment}/download", headers={"range": text})
        for text in ("items=0-1", "bytes=5-3", "bytes=0-1000000", "bytes=3-3")
    ]
    assert {answer.status_code for answer in answers} == {416}
    return answers[0]


async def cancel_what_is_ready(stage: Stage) -> httpx.Response:
    await stage.build()
    return await stage.client.patch(f"{D}/{stage.deployment}/status", json={})


async def cancel_what_failed(stage: Stage) -> httpx.Response:
    async with stage.app.store.begin(PROJECT_ID) as unit:
        await unit.deployments.move(stage.deployment, DeploymentStatus.FAILED)
    return await stage.client.patch(f"{D}/{stage.deployment}/status", json={})


async def duplicate_unfinished(stage: Stage) -> httpx.Response:
    """A deployment whose source has not arrived whole has nothing to build."""
    begun = await stage.upload(content_range="bytes 0-9/6000000", code=b"x" * 10)
    return await stage.client.post(D + "/duplicate", json={"deploymentId": begun.json()["$id"]})


async def execute_unready(stage: Stage) -> httpx.Response:
    await stage.break_active()
    return await stage.client.post(X, json={})


async def execute_not_admitted(stage: Stage) -> httpx.Response:
    await stage.build()
    async with stage.app.client("") as guest:
        return await guest.post(X, json={})


async def execute_disabled(stage: Stage) -> httpx.Response:
    """There for keys, not there for anybody else, whatever else is wrong with it."""
    await stage.client.put(E, json=FUNCTION | {"enabled": False})
    async with stage.app.client("") as guest:
        return await guest.post(X, json={})


async def execute_too_long(stage: Stage) -> httpx.Response:
    await stage.build()

    stage.app.executor.submit = lambda _: asyncio.get_running_loop().create_future()  # type: ignore[method-assign]
    answer = await stage.client.post(X, json={})
    (stored,) = (await stage.client.get(X)).json()["executions"]
    assert (stored["status"], stored["responseStatusCode"]) == ("failed", 500)
    assert stored["errors"]
    return answer


async def answer_is_not_text(stage: Stage) -> httpx.Response:
    await stage.build()
    stage.app.executor.result = Result(stage.app.executor.result.outcome, 200, (), b"\xff\xfe", "", "", 0.01)
    answer = await stage.client.post(X, json={})
    assert answer.json()["message"].startswith("Failed to parse response")
    assert (await stage.client.get(X)).json()["total"] == 1, "it has run and is stored"
    return answer


async def read_by_a_stranger(stage: Stage) -> httpx.Response:
    """Guests hold no scope to read executions; that is refused before anything is looked up."""
    async with stage.app.client("") as guest:
        return await guest.get(X + "/none")


async def delete_waiting(stage: Stage) -> httpx.Response:
    return await stage.client.request("DELETE", f"{X}/{await stage.waiting()}", json={})


async def one_variable_too_many(stage: Stage) -> httpx.Response:
    return await stage.client.post(V, json={"key": "ONE_TOO_MANY", "value": ""})


def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server as it is."""


def three_creations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.api.whole.ApiSettings", lambda: ApiSettings(function_creations_per_day=3))


def python_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AllRuntimes, "available", lambda self, id: id.startswith("python"))


def short_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.api.whole.ControlLimits", lambda: ControlLimits(upload_lock_s=0.05))


def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearth.control.executions.SYNC_WAIT_S", 0.05)


def few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearth.control.variables.VARIABLES_MAX", 2)


#: (route, type) and what provokes it, with what has to be different of the server.
ARRANGED: list[tuple[str, str, Provoke, Prepare]] = [
    ("functions.create", "general_rate_limit_exceeded", creations_used_up, three_creations),
    ("functions.create", "function_runtime_unsupported", runtime_not_installed, python_only),
    ("deployments.create", "deployment_not_found", id_of_another_function, nothing),
    ("deployments.create", "general_rate_limit_exceeded", lock_not_obtained, short_lock),
    ("deployments.create_template", "installation_not_found", connected_template, nothing),
    ("deployments.create_vcs", "installation_not_found", connected_vcs, nothing),
    ("deployments.create_vcs", "provider_repository_not_found", vcs_without_repository, nothing),
    ("deployments.create_vcs", "provider_repository_not_found", vcs_of_a_missing_repository, nothing),
    ("deployments.create_template", "provider_repository_not_found", template_for_a_missing_repository, nothing),
    ("deployments.duplicate", "installation_not_found", duplicate_without_installation, nothing),
    ("deployments.duplicate", "deployment_not_found", duplicate_unfinished, nothing),
    ("deployments.download", "user_unauthorized", download_without_key, nothing),
    ("deployments.download", "storage_invalid_range", bad_range, nothing),
    ("deployments.cancel", "build_already_completed", cancel_what_is_ready, nothing),
    ("deployments.cancel", "build_already_completed", cancel_what_failed, nothing),
    ("executions.create", "function_not_found", execute_disabled, nothing),
    ("executions.create", "function_runtime_unsupported", runtime_vanished, nothing),
    ("executions.create", "build_not_ready", execute_unready, nothing),
    ("executions.create", "user_unauthorized", execute_not_admitted, nothing),
    ("executions.create", "function_synchronous_timeout", execute_too_long, short_wait),
    ("executions.create", "general_unknown", answer_is_not_text, nothing),
    ("executions.get", "general_unauthorized_scope", read_by_a_stranger, nothing),
    ("executions.delete", "execution_in_progress", delete_waiting, nothing),
    ("variables.create", "general_bad_request", one_variable_too_many, few_variables),
]
#: Not provoked here: memory for bodies is derived for all routes alike (`test_limits`).
ELSEWHERE = {
    ("executions.create", "general_rate_limit_exceeded"),
    ("executions.create", "idempotency_key_reused"),
    ("executions.create", "idempotency_request_in_progress"),
    ("executions.create", "idempotency_answer_gone"),
}


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    getattr(request, "param", nothing)(monkeypatch)
    async with whole(tmp_path) as app, app.client() as client:
        prepared = Stage(app, client)
        await prepared.prepare()
        yield prepared


def check(answer: httpx.Response, route: str, type: str) -> None:
    """Status, type and form of one error answer, as the route documents them."""
    document = answer.json()
    about = (route, type, document)
    assert document["type"] == type, about
    assert (type, answer.status_code) in set(refusals_of(ROUTES[route])), about
    assert list(document) == ["message", "code", "type", "version"], about
    assert document["code"] == answer.status_code, about
    assert document["message"], about
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"


def test_every_refusal_a_route_documents_is_provoked() -> None:
    provoked = {(row[0], row[1]) for row in (*PLAIN, *ARRANGED)} | ELSEWHERE
    tested = {route for route, _ in provoked}
    documented = {
        (route.name, entry if isinstance(entry, str) else entry[0])
        for route in ROUTES.values()
        if route.name in tested
        for entry in route.refusals
    }
    assert documented - provoked == set()
    assert len(tested) == 25


async def test_refusals_that_need_no_arrangement(stage: Stage) -> None:
    for route, type, provoke in PLAIN:
        check(await provoke(stage), route, type)
    functions = (await stage.client.get("/functions")).json()
    assert sorted(item["$id"] for item in functions["functions"]) == ["bare", "f", "other"], "nothing was changed"
    assert (await stage.client.get(V)).json()["total"] == 2
    assert (await stage.client.get(D)).json()["total"] == 1


@pytest.mark.parametrize(
    ("route", "type", "provoke", "stage"),
    ARRANGED,
    ids=[f"{row[0]}-{row[1]}-{row[2].__name__}" for row in ARRANGED],
    indirect=["stage"],
)
async def test_refusals_that_are_arranged(stage: Stage, route: str, type: str, provoke: Provoke) -> None:
    check(await provoke(stage), route, type)


#: Requests to create an execution with several faults, the earliest first (contract: functions-api 5.15).
ORDER: list[tuple[dict[str, Any], str, str]] = [
    ({"scheduledAt": LATER, "headers": {"-a": "b"}}, "none", "general_bad_request"),
    ({"async": True, "scheduledAt": LATER, "headers": {"-a": "b"}}, "none", "general_bad_request"),
    ({"headers": {"-a": "b"}}, "none", "general_argument_invalid"),
    ({}, "none", "function_not_found"),
    ({}, "bare", "deployment_not_found"),
    ({}, "f", "user_unauthorized"),
]


async def test_an_execution_is_refused_for_its_first_fault(stage: Stage) -> None:
    """Existence, deployment and build come before the permission, for guests too."""
    await stage.build()
    async with stage.app.client("") as guest:
        for body, function, type in ORDER:
            answer = await guest.post(f"/functions/{function}/executions", json=body)
            assert answer.json()["type"] == type, (body, function)
    soon = (NOW + timedelta(seconds=60)).isoformat()
    refused = await stage.client.post(X, json={"async": True, "scheduledAt": soon})
    assert refused.json()["type"] == "general_bad_request"


async def test_an_unready_build_is_named_before_a_missing_permission(stage: Stage) -> None:
    await stage.break_active()
    async with stage.app.client("") as guest:
        answer = await guest.post(X, json={})
    assert answer.json()["type"] == "build_not_ready"
