"""The table is whole and consistent: every endpoint of the contract, every alias, no ambiguity."""

from dataclasses import replace

import pytest

from hearth.api.limits import RateLimits
from hearth.api.router import Router
from hearth.api.routes import AbuseRule, Body, Facts, Place, Route
from hearth.api.table import all_routes
from hearth.data import load
from hearth.model.actor import Actor, ActorKind
from hearth.model.refusals import Refusal
from tests.api.support import FixedClock

ROUTES = all_routes(Facts(runtimes=("node-22",), specifications=("s-1vcpu-512mb",)))
ROUTER = Router(ROUTES)
F, D = "/v1/functions/F", "/v1/functions/F/deployments/D"

#: Method, path, route, scopes, success code (contract: functions-api 3, with its aliases).
ENDPOINTS = [
    ("POST", "/v1/functions", "functions.create", ("functions.write",), 201),
    ("GET", "/v1/functions", "functions.list", ("functions.read",), 200),
    ("GET", F, "functions.get", ("functions.read",), 200),
    ("PUT", F, "functions.update", ("functions.write",), 200),
    ("PATCH", F + "/deployment", "functions.set_deployment", ("functions.write",), 200),
    ("PATCH", D, "functions.set_deployment", ("functions.write",), 200),
    ("DELETE", F, "functions.delete", ("functions.write",), 204),
    ("GET", "/v1/functions/runtimes", "functions.list_runtimes", ("public",), 200),
    ("GET", "/v1/functions/templates", "functions.list_templates", ("public",), 200),
    ("GET", "/v1/functions/templates/T", "functions.get_template", ("public",), 200),
    ("GET", "/v1/functions/specifications", "functions.list_specifications", ("functions.read",), 200),
    ("POST", F + "/deployments", "deployments.create", ("functions.write",), 202),
    ("POST", F + "/deployments/duplicate", "deployments.duplicate", ("functions.write",), 202),
    ("POST", F + "/deployments/template", "deployments.create_template", ("functions.write",), 202),
    ("POST", F + "/deployments/vcs", "deployments.create_vcs", ("functions.write",), 202),
    ("POST", D + "/build", "deployments.duplicate", ("functions.write",), 202),
    ("POST", D + "/builds/B", "deployments.duplicate", ("functions.write",), 202),
    ("GET", F + "/deployments", "deployments.list", ("functions.read",), 200),
    ("GET", D, "deployments.get", ("functions.read",), 200),
    ("GET", D + "/download", "deployments.download", ("public", "functions.read"), 200),
    ("GET", D + "/build/download", "deployments.download", ("public", "functions.read"), 200),
    ("PATCH", D + "/status", "deployments.cancel", ("functions.write",), 200),
    ("PATCH", D + "/build", "deployments.cancel", ("functions.write",), 200),
    ("DELETE", D, "deployments.delete", ("functions.write",), 204),
    ("POST", F + "/executions", "executions.create", ("executions.write", "execution.write"), 201),
    ("GET", F + "/executions", "executions.list", ("executions.read", "execution.read"), 200),
    ("GET", F + "/executions/E", "executions.get", ("executions.read", "execution.read"), 200),
    ("DELETE", F + "/executions/E", "executions.delete", ("executions.write", "execution.write"), 204),
    ("POST", F + "/variables", "variables.create", ("functions.write",), 201),
    ("GET", F + "/variables", "variables.list", ("functions.read",), 200),
    ("GET", F + "/variables/V", "variables.get", ("functions.read",), 200),
    ("PUT", F + "/variables/V", "variables.update", ("functions.write",), 200),
    ("DELETE", F + "/variables/V", "variables.delete", ("functions.write",), 204),
    ("GET", F + "/settings", "function_settings.get", ("functions.read",), 200),
    ("GET", "/v1/functions/usage", "usage.list", ("functions.read",), 200),
    ("GET", F + "/usage", "usage.get", ("functions.read",), 200),
    ("PATCH", F + "/settings", "function_settings.update", ("functions.write",), 200),
    ("GET", "/v1/health/version", "health.version", ("public",), 200),
    ("GET", "/v1/health", "health.get", ("health.read",), 200),
    ("GET", "/v1/ping", "ping", ("public", "global"), 200),
]


def find(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    return ROUTER.find(method, path.strip("/").split("/"))


@pytest.mark.parametrize(("method", "path", "name", "scopes", "success"), ENDPOINTS)
def test_every_endpoint_of_the_contract_is_served(
    method: str, path: str, name: str, scopes: tuple[str, ...], success: int
) -> None:
    found = find(method, path)
    assert found is not None
    assert (found[0].name, found[0].scopes, found[0].success) == (name, scopes, success)


def test_no_other_endpoint_is_served() -> None:
    """Below the paths of the Functions service and of health; other services are counted by tests of their own."""
    served = {(method, path) for route in ROUTES for method, path in ((route.method, route.path), *route.aliases)}
    ours = ("/v1/functions", "/v1/health", "/v1/ping")
    more = {
        ("GET", "/v1/functions/{functionId}/logs"),
        ("GET", "/v1/functions/{functionId}/executions/{executionId}/logs"),
        ("GET", "/v1/functions/{functionId}/executions/{executionId}/attempts"),
        ("GET", "/v1/functions/{functionId}/executions/{executionId}/request"),
        ("GET", "/v1/functions/{functionId}/executions/{executionId}/response"),
        ("POST", "/v1/functions/{functionId}/executions/{executionId}/replay"),
        ("GET", "/v1/functions/{functionId}/deadletters"),
        ("DELETE", "/v1/functions/{functionId}/deadletters"),
        ("POST", "/v1/functions/{functionId}/deadletters/redrive"),
        ("GET", "/v1/functions/{functionId}/deadletters/{deadLetterId}"),
        ("DELETE", "/v1/functions/{functionId}/deadletters/{deadLetterId}"),
        ("POST", "/v1/functions/{functionId}/deadletters/{deadLetterId}/redrive"),
    }
    assert more <= served
    assert len([path for _, path in served - more if path.startswith(ours)]) == len(ENDPOINTS)


def test_ids_in_the_path_are_named() -> None:
    found = find("POST", "/v1/functions/f%20x/deployments/d/builds/b")
    assert found is not None
    assert found[1] == {"functionId": "f x", "deploymentId": "d", "buildId": "b"}


def test_a_fixed_name_wins_over_an_id_only_where_it_leads_somewhere() -> None:
    """`runtimes` may also be the id of a function, as far as other methods and deeper paths go."""
    get, delete, deeper = find("GET", "/v1/functions/runtimes"), find("DELETE", "/v1/functions/runtimes"), None
    deeper = find("GET", "/v1/functions/runtimes/variables")
    assert get is not None and get[0].name == "functions.list_runtimes"
    assert delete is not None and delete[1] == {"functionId": "runtimes"}
    assert deeper is not None and deeper[0].name == "variables.list"


def test_two_routes_of_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="is both"):
        Router([*ROUTES, replace(ROUTES[0], name="other")])


def test_route_names_are_unique_and_described() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert all(route.summary.endswith(".") or "`" in route.summary for route in ROUTES)
    assert all(param.description for route in ROUTES for param in route.params)


def test_parameters_are_where_their_routes_read_them() -> None:
    """Path parameters are in the path, body parameters on routes with fields, query parameters on the others."""
    for route in ROUTES:
        for param in route.params:
            if param.place is Place.PATH:
                assert f"{{{param.name}}}" in route.path, (route.name, param.name)
            else:
                assert (param.place is Place.BODY) == (route.body not in (Body.IGNORED, Body.RAW)), (
                    route.name,
                    param.name,
                )


def test_arguments_of_one_route_do_not_collide() -> None:
    for route in ROUTES:
        names = [param.to for param in route.params if param.to]
        assert len(set(names)) == len(names), route.name


def test_optional_defaults_pass_their_own_validators() -> None:
    """Except None, which says "keep" or "not given" to control, and defaults that are already converted."""
    for route in ROUTES:
        for param in route.params:
            if not param.required and isinstance(param.default, str | int) and param.to != "query":
                if param.default == "" and param.name in ("runtime", "search"):
                    continue
                assert param.validator.check(param.default) == param.default, (route.name, param.name)


def test_event_labels_are_events_of_the_table() -> None:
    patterns = {row["pattern"] for row in load("events.json")["patterns"]} | {"variables.*.create"}
    for route in ROUTES:
        if route.event and not route.event.startswith("variables."):
            pattern = ".".join("*" if part.startswith("[") else part for part in route.event.split("."))
            assert pattern in patterns, route.name


class TestRouteLimits:
    """Check 18: a route's own limit, never for keys and admins."""

    rule = AbuseRule(2, 60, "url:{url},ip:{ip},user:{user}")
    user = Actor(ActorKind.USER, frozenset(), user_id="u1")

    def test_the_call_after_the_limit_is_refused_and_another_caller_is_not(self) -> None:
        limits = RateLimits(FixedClock())
        standings = [limits.check_route(self.rule, "/x", self.user, "1.1.1.1") for _ in range(2)]
        assert [standing.remaining for standing in standings if standing] == [1, 0]
        with pytest.raises(Refusal) as refused:
            limits.check_route(self.rule, "/x", self.user, "1.1.1.1")
        assert refused.value.type == "general_rate_limit_exceeded"
        assert limits.check_route(self.rule, "/x", self.user, "2.2.2.2") is not None

    @pytest.mark.parametrize("kind", [ActorKind.KEY, ActorKind.ADMIN])
    def test_keys_and_admins_are_exempt(self, kind: ActorKind) -> None:
        limits = RateLimits(FixedClock())
        assert all(limits.check_route(self.rule, "/x", Actor(kind, frozenset()), "") is None for _ in range(5))

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hearth.api.limits.WINDOWS_MAX", 10)
        limits = RateLimits(FixedClock())
        for number in range(50):
            limits.take(f"caller {number}", 1, 60)
        assert len(limits._counts) <= 10
        with pytest.raises(Refusal):
            limits.take("caller 49", 1, 60)
