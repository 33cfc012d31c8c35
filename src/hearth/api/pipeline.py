"""The order of checks of every request (contract: functions-api 1). A wrong order is visible to clients."""

from collections.abc import Iterable
from typing import Any

from hearth import log_context
from hearth.api import origins, params
from hearth.api.call import Call, Services
from hearth.api.client_address import client_address
from hearth.api.errors import answer_for
from hearth.api.formats import Version, parse_version
from hearth.api.messages import Answer, ClientGone, Request, empty_answer
from hearth.api.request_formats import translate
from hearth.api.router import Router
from hearth.api.routes import Body, Route
from hearth.auth.identify import Credentials
from hearth.model.actor import Actor, ActorKind
from hearth.model.people import CONSOLE
from hearth.model.refusals import Refusal
from hearth.model.resources import Project

#: Group of the routes that need a project (contract: functions-api 1, check 18b).
FUNCTIONS_GROUP = "functions"
#: The protocol every route speaks.
REST = "rest"
#: Bodies up to this many bytes are not counted against the memory budget.
_UNCOUNTED_BYTES = 64 * 1024

_ROLE_NAMES = {ActorKind.GUEST: "guests", ActorKind.USER: "users", ActorKind.KEY: "keys", ActorKind.ADMIN: "admin"}


class Pipeline:
    """Takes a request through its checks to the handler of its route."""

    def __init__(self, routes: Iterable[Route], services: Services) -> None:
        self._router = Router(routes)
        self._services = services

    async def answer(self, request: Request) -> Answer:
        """The answer to a request. Raises only ClientGone (and passes a cancellation on)."""
        about = {"method": request.method, "route": "", "project_id": ""}
        try:
            return await self._run(request, about)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 the top of a request: whatever it is becomes its answer
            return answer_for(error, **about)

    async def _run(self, request: Request, about: dict[str, str]) -> Answer:
        found = self._router.find(request.method, request.segments)
        if found is None:
            raise Refusal("general_route_not_found")
        route, path = found
        about["route"] = request.route = route.name
        request.expects_body = route.body is not Body.IGNORED
        services = self._services
        self._check_origin(request)
        body = _FieldsReader(request, route, services)
        try:
            project = await self._project(request, body)
            project_id = about["project_id"] = CONSOLE if project is None else project.id
            _bind(project_id, path)
            version = parse_version(request.header(b"x-appwrite-response-format"))
            actor = await services.identify.identify(_credentials(request, project_id, project))
            _check_switches(route, actor, project)
            _check_scope(route, actor)
            if actor.refusal:
                raise Refusal(actor.refusal)
            client_ip = client_address(request, services.settings.trusted_proxies)
            standing = None
            if route.abuse is not None and services.settings.abuse:
                fields = await body.peek() if route.abuse.fields else {}
                place = f"{project_id}{request.scope['path']}"
                standing = services.limits.check_route(route.abuse, place, actor, client_ip, fields)
            if project_id == CONSOLE and FUNCTIONS_GROUP in route.groups:
                raise Refusal("general_access_forbidden")
            call = Call(
                request=request,
                route=route,
                path=path,
                project_id=project_id,
                actor=actor,
                version=version,
                client_ip=client_ip,
                services=services,
            )
            answer = await _handle(call, body, version)
        finally:
            body.release()
        if standing is not None:
            if route.abuse is not None and route.abuse.resets:
                services.limits.forget(standing)
            answer.headers += [(name.encode(), value.encode()) for name, value in standing.headers().items()]
        return answer

    def _check_origin(self, request: Request) -> None:
        headers = request.headers
        origin = headers.get(b"origin")
        if origin is None or headers.get(b"x-appwrite-key"):
            return
        text = origin.decode("latin-1")
        registered = self._services.settings.allowed_origins
        if origins.is_allowed(text, request.header(b"host"), registered):
            return
        project_id = request.header(b"x-appwrite-project") or _text(request.query().get("project"))
        if not origins.origin_allowed(text, self._services.control.origin_book.hosts(project_id)):
            raise Refusal(
                "general_unknown_origin",
                f"The browser origin {text[:128]} is not registered as a platform of the project. "
                "Register its host name, or add it to the server's allowed origins.",
            )

    async def _project(self, request: Request, body: "_FieldsReader") -> Project | None:
        """Header, then query, then body; None means the console. Unknown ids are refused here (check 5)."""
        project_id = request.header(b"x-appwrite-project")
        if not project_id and request.query_string:
            project_id = _text(request.query().get("project"))
        if not project_id:
            project_id = _text((await body.peek()).get("project"))
        if not project_id or project_id == CONSOLE:
            return None
        project = await self._services.control.projects.get(project_id)
        if project is None:
            raise Refusal("project_not_found")
        return project


def _bind(project_id: str, path: dict[str, str]) -> None:
    """Let the log say what the request is about, as far as its address does."""
    log_context.bind(
        project_id=project_id,
        function_id=path.get("functionId", "")[:64],
        deployment_id=path.get("deploymentId", "")[:64],
        execution_id=path.get("executionId", "")[:64],
    )


async def _handle(call: Call, body: "_FieldsReader", version: Version | None) -> Answer:
    """Check the parameters, run the handler, and shape what it returns."""
    route = call.route
    if route.body is not Body.UPLOAD:
        fields = await body.fields() if route.body is Body.FIELDS else call.request.query()
        call.arguments = params.check(route.params, call.path, translate(route.name, version, fields))
    result = await route.handler(call)
    if isinstance(result, Answer):
        return result
    if route.success == 204:
        return empty_answer()
    return call.reply(result)


def _check_switches(route: Route, actor: Actor, project: Project | None) -> None:
    """Checks 12 and 13: what the project has switched off answers keys and admins only."""
    if project is None or actor.is_privileged:
        return
    if project.services_off and route.service in project.services_off:
        raise Refusal("general_service_disabled")
    if project.protocols_off and REST in project.protocols_off:
        raise Refusal("general_api_disabled")


def _check_scope(route: Route, actor: Actor) -> None:
    if not actor.has_scope(route.scopes):
        role = _ROLE_NAMES[actor.kind]
        raise Refusal(
            "general_unauthorized_scope", f"{actor.label} (role: {role}) missing scopes ({route.scopes_text})"
        )


def _credentials(request: Request, project_id: str, project: Project | None) -> Credentials:
    header = request.header
    query = request.query() if request.query_string else {}
    return Credentials(
        project_id=project_id,
        header_project_id=header(b"x-appwrite-project"),
        key=header(b"x-appwrite-key"),
        session=header(b"x-appwrite-session"),
        jwt=header(b"x-appwrite-jwt"),
        cookie=header(b"cookie"),
        fallback_cookies=header(b"x-fallback-cookies"),
        mode=header(b"x-appwrite-mode") or _text(query.get("mode")),
        sdk_name=header(b"x-sdk-name"),
        team_id="" if project is None else project.team_id,
        key_user=header(b"x-appwrite-user"),
        impersonate_id=header(b"x-appwrite-impersonate-user-id") or _text(query.get("impersonateUserId")),
        impersonate_email=header(b"x-appwrite-impersonate-user-email") or _text(query.get("impersonateEmail")),
        impersonate_phone=header(b"x-appwrite-impersonate-user-phone") or _text(query.get("impersonatePhone")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class _FieldsReader:
    """Reads the body of one request at most once, and holds its share of the memory budget until released."""

    def __init__(self, request: Request, route: Route, services: Services) -> None:
        self._request = request
        self._route = route
        self._limit = route.body_limit
        self._budget = services.memory
        self._taken = 0
        self._fields: dict[str, Any] | None = None
        self._refusal: Refusal | None = None

    async def fields(self) -> dict[str, Any]:
        """The fields of the body. Raises Refusal when it cannot be read."""
        fields = await self.peek()
        if self._refusal is not None:
            raise self._refusal
        return fields

    async def peek(self) -> dict[str, Any]:
        """As `fields`, but a body that cannot be read has none: its refusal waits for its place in the order."""
        if self._fields is None:
            self._fields = {}
            if self._route.body is Body.FIELDS:
                try:
                    self._fields = await self._read()
                except Refusal as refusal:
                    self._refusal = refusal
        return self._fields

    async def _read(self) -> dict[str, Any]:
        announced = self._request.announced_bytes()
        expected = self._limit if announced is None else announced
        if _UNCOUNTED_BYTES < expected <= self._limit and not self._request.body_done:
            self._budget.take(expected)
            self._taken = expected
        return params.fields_of(self._request, await self._request.body(self._limit))

    def release(self) -> None:
        """Give the memory back; called when the request is answered."""
        if self._taken:
            self._budget.give_back(self._taken)
            self._taken = 0
