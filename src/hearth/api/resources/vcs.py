"""Git hosts: installations, repositories, webhooks (contract: side-services 12)."""

from collections.abc import Mapping
from typing import Any

from hearth.api import wire, wire_vcs
from hearth.api.call import Call
from hearth.api.errors import error_answer
from hearth.api.hosting_grammar import Url
from hearth.api.messages import Answer
from hearth.api.resources.common import PROJECT_GROUPS, SEARCH, TOTAL, listed, queries
from hearth.api.resources.scoped import body
from hearth.api.routes import Body, Param, Place, Reply, Route
from hearth.api.validators import Boolean, Id, Items, OneOf, Text
from hearth.model import attributes
from hearth.model.ids import UNIQUE
from hearth.model.queries import ListQuery
from hearth.model.vcs import Provider

#: Bytes of a webhook of a git host; theirs are far smaller unless a push is huge, and then it only says where to look.
EVENT_BYTES_MAX = 5 * 1024 * 1024
REPOSITORIES_MAX = 100
_EVENT_LIMIT_TEXT = f"A webhook of a git host may hold at most {EVENT_BYTES_MAX} bytes."


async def create(call: Call) -> Any:
    control = call.control.installations
    installation = await control.create(call.project_id, **call.arguments, user_id=call.actor.user_id)
    url = call.control.connections.events_url(installation)
    return wire_vcs.installation(installation, url, installation.webhook_secret)


async def list_(call: Call) -> Any:
    page = await call.control.installations.list(call.project_id, listed(**call.arguments))
    return wire.listing("installations", page.total, [wire_vcs.installation(item) for item in page.items])


async def get(call: Call) -> Any:
    return wire_vcs.installation(await call.control.installations.get(call.project_id, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.installations.delete(call.project_id, **call.arguments)


async def namespaces(call: Call) -> Any:
    installation = await call.control.installations.get(call.project_id, **call.arguments)
    return wire.listing("namespaces", 1, [{"name": installation.organization}])


async def list_repositories(call: Call) -> Any:
    arguments = dict(call.arguments)
    kind, query = arguments.pop("kind"), arguments.pop("query")
    installation = await call.control.installations.get(call.project_id, arguments["installation_id"])
    page = await call.control.installations.repositories(
        call.project_id, **arguments, offset=query.offset, limit=query.limit
    )
    runtimes: Mapping[str, str] = {}
    if kind == "runtime":
        runtimes = await call.control.installations.runtimes_of(call.project_id, installation.id, page.items)
    items = [wire_vcs.repository(installation, it) | {kind: runtimes.get(it.id, "")} for it in page.items]
    return wire.listing(f"{kind}ProviderRepositories", page.total, items)


async def create_repository(call: Call) -> Any:
    return wire_vcs.repository(*await call.control.installations.create_repository(call.project_id, **call.arguments))


async def get_repository(call: Call) -> Any:
    return wire_vcs.repository(*await call.control.installations.repository(call.project_id, **call.arguments))


async def branches(call: Call) -> Any:
    found = await call.control.installations.branches(call.project_id, **call.arguments)
    return wire.listing("branches", len(found), [wire_vcs.branch(it) for it in found])


async def contents(call: Call) -> Any:
    found = await call.control.installations.contents(call.project_id, **call.arguments)
    return wire.listing("contents", len(found), [wire_vcs.content(it) for it in found])


async def detect(call: Call) -> Any:
    return wire_vcs.detection(await call.control.installations.detect(call.project_id, **call.arguments))


async def authorize_pull_request(call: Call) -> None:
    await call.control.pushes.authorize(call.project_id, **call.arguments)


async def authorize(call: Call) -> Any:
    return _redirect(call.control.installations.authorize(call.project_id, **call.arguments))


async def callback(call: Call) -> Any:
    query = {name: value for name, value in call.request.query().items() if isinstance(value, str)}
    target = await call.control.installations.authorized(provider=call.arguments["provider"], query=query)
    return _redirect(target) if target else {"result": "installed"}


async def events(call: Call) -> Any:
    announced = call.request.announced_bytes()
    if announced is not None and announced > EVENT_BYTES_MAX:
        return _too_large()
    content = bytearray()
    async for chunk in call.request.chunks(EVENT_BYTES_MAX * 4):
        content += chunk
        if len(content) > EVENT_BYTES_MAX:
            return _too_large()
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in call.request.headers.items()}
    result = await call.control.pushes.receive(
        provider=call.arguments["provider"],
        project_id=call.project_id,
        installation_id=call.arguments["installation_id"],
        headers=headers,
        body=bytes(content),
    )
    return {"result": result}


def _too_large() -> Answer:
    answer = error_answer(413, "general_argument_invalid", _EVENT_LIMIT_TEXT)
    answer.close = True
    return answer


def _redirect(url: str) -> Answer:
    return Answer(302, headers=[(b"location", url.encode("ascii", "ignore")), (b"cache-control", b"no-store")])


_PATH = "/v1/vcs/installations"
_AT = "/v1/vcs/github/installations/{installationId}"
_REPOSITORY = _AT + "/providerRepositories/{providerRepositoryId}"
_READ, _WRITE = ("vcs.read",), ("vcs.write",)
_NO_REPOSITORY = ("installation_not_found", "provider_repository_not_found", "general_provider_failure")
_INSTALLATION_ID = Param("installationId", Place.PATH, Id(), "Installation ID.", "installation_id", required=True)
_PROVIDERS = tuple(str(provider) for provider in Provider)
_PROVIDER = Param("provider", Place.PATH, OneOf(_PROVIDERS), "Kind of git host.", "provider", required=True)
_REPOSITORY_ID = Param(
    "providerRepositoryId", Place.PATH, Text(1, 128), "Repository ID at the host.", "repository_id", required=True
)
_KIND = OneOf(("runtime", "framework"))


def _query(name: str, validator: Any, description: str, to: str, **more: Any) -> Param:
    return Param(name, Place.QUERY, validator, description, to, **more)


def _route(name: str, method: str, path: str, handler: Any, summary: str, scopes: Any, **more: Any) -> Route:
    return Route(f"vcs.{name}", method, path, handler, summary, scopes, groups=PROJECT_GROUPS, **more)


ROUTES = (
    _route(
        "create_installation",
        "POST",
        _PATH,
        create,
        "Link the project to a git host by a token or key.",
        _WRITE,
        description="An extension of this server: hosts without an installation page are linked by credentials.",
        refusals=("general_provider_failure",),
        params=(
            body(
                "installationId", Id(custom=True), "Installation ID, or `unique()`.", "installation_id", default=UNIQUE
            ),
            body("provider", OneOf(_PROVIDERS), "Kind of git host.", "provider", required=True),
            body(
                "baseUrl",
                Text(0, 2048),
                "Where the host is; for a plain git server what its repositories are below: https, ssh or file.",
                "base_url",
                default="",
            ),
            body("organization", Text(0, 128), "The account at the host.", "organization", default=""),
            body("token", Text(0, 4096), "Token for https.", "token", default=""),
            body("username", Text(0, 256), "User name that goes with it, if it needs one.", "username", default=""),
            body("privateKey", Text(0, 16384), "Private deploy key for ssh (OpenSSH).", "private_key", default=""),
            body(
                "knownHosts",
                Text(0, 16384),
                "Keys of the ssh host, as known_hosts has them; without them those it shows now are trusted.",
                "known_hosts",
                default="",
            ),
            body(
                "repositories",
                Items(Text(1, 128), REPOSITORIES_MAX, "repositories"),
                "Repositories to list, where the host cannot list them itself.",
                "repositories",
                default=(),
            ),
            body(
                "webhookSecret",
                Text(0, 256),
                "What webhooks are signed with; the server makes one if none is given.",
                "webhook_secret",
                default="",
            ),
        ),
        success=201,
        model="installation",
        body=Body.FIELDS,
    ),
    _route(
        "list_installations",
        "GET",
        _PATH,
        list_,
        "List installations.",
        _READ,
        params=(queries(attributes.INSTALLATIONS), SEARCH, TOTAL),
        model="installationList",
    ),
    _route(
        "get_installation",
        "GET",
        _PATH + "/{installationId}",
        get,
        "Get an installation.",
        _READ,
        refusals=("installation_not_found",),
        params=(_INSTALLATION_ID,),
        model="installation",
    ),
    _route(
        "delete_installation",
        "DELETE",
        _PATH + "/{installationId}",
        delete,
        "Delete an installation; its functions are disconnected.",
        _WRITE,
        refusals=("installation_not_found",),
        params=(_INSTALLATION_ID,),
        success=204,
    ),
    _route(
        "list_namespaces",
        "GET",
        _PATH + "/{installationId}/namespaces",
        namespaces,
        "List the accounts of an installation.",
        _READ,
        refusals=("installation_not_found",),
        params=(_INSTALLATION_ID,),
        model="namespaceList",
    ),
    _route(
        "list_repositories",
        "GET",
        _AT + "/providerRepositories",
        list_repositories,
        "List the repositories of an installation.",
        _READ,
        refusals=_NO_REPOSITORY,
        params=(
            _INSTALLATION_ID,
            _query("type", _KIND, "What they are listed for.", "kind", default="runtime"),
            SEARCH,
            _query("queries", queries({}).validator, "limit and offset only.", "query", default=ListQuery()),
        ),
        model="providerRepositoryList",
    ),
    _route(
        "create_repository",
        "POST",
        _AT + "/providerRepositories",
        create_repository,
        "Create a repository at the host.",
        _WRITE,
        refusals=_NO_REPOSITORY,
        params=(
            _INSTALLATION_ID,
            body("name", Text(1, 256), "Its name.", "name", required=True),
            body("private", Boolean(), "Whether it is private.", "private", required=True),
        ),
        success=201,
        model="providerRepository",
        body=Body.FIELDS,
    ),
    _route(
        "get_repository",
        "GET",
        _REPOSITORY,
        get_repository,
        "Get a repository.",
        _READ,
        refusals=_NO_REPOSITORY,
        params=(_INSTALLATION_ID, _REPOSITORY_ID),
        model="providerRepository",
    ),
    _route(
        "list_branches",
        "GET",
        _REPOSITORY + "/branches",
        branches,
        "List the branches of a repository.",
        _READ,
        refusals=_NO_REPOSITORY,
        params=(_INSTALLATION_ID, _REPOSITORY_ID),
        model="branchList",
    ),
    _route(
        "list_contents",
        "GET",
        _REPOSITORY + "/contents",
        contents,
        "List a folder of a repository.",
        _READ,
        refusals=_NO_REPOSITORY,
        params=(
            _INSTALLATION_ID,
            _REPOSITORY_ID,
            _query("providerRootDirectory", Text(0, 256), "The folder.", "path", default=""),
            _query("providerReference", Text(0, 256), "Branch or commit.", "ref", default=""),
        ),
        model="vcsContentList",
    ),
    _route(
        "create_detection",
        "POST",
        _AT + "/detections",
        detect,
        "Detect which runtime a repository is for.",
        _WRITE,
        refusals=(*_NO_REPOSITORY, "function_runtime_not_detected"),
        params=(
            _INSTALLATION_ID,
            body("providerRepositoryId", Text(1, 128), "Repository ID at the host.", "repository_id", required=True),
            body("type", _KIND, "What to detect; this server detects runtimes.", "", required=True),
            body("providerRootDirectory", Text(0, 256), "The folder.", "path", default=""),
        ),
        model="detectionRuntime",
        body=Body.FIELDS,
    ),
    _route(
        "authorize_pull_request",
        "PATCH",
        _AT + "/repositories/{repositoryId}",
        authorize_pull_request,
        "Let a pull request of a fork be deployed as a preview.",
        _WRITE,
        refusals=(*_NO_REPOSITORY, "repository_not_found", "provider_contribution_conflict"),
        params=(
            _INSTALLATION_ID,
            Param(
                "repositoryId",
                Place.PATH,
                Id(),
                "ID of the repository link, or of its function.",
                "link_id",
                required=True,
            ),
            body("providerPullRequestId", Text(1, 256), "Number of the pull request.", "pull_request", required=True),
        ),
        success=204,
        body=Body.FIELDS,
    ),
    _route(
        "authorize",
        "GET",
        "/v1/vcs/{provider}/authorize",
        authorize,
        "Send the browser to the page of the host where it installs us.",
        _READ,
        refusals=("general_provider_failure",),
        params=(
            _PROVIDER,
            _query("success", Url(), "Where the browser goes afterwards.", "success"),
            _query("failure", Url(), "Where it goes if that fails.", "failure"),
        ),
        replies=(Reply(302, (), "The page of the host."),),
    ),
    Route(
        name="vcs.callback",
        method="GET",
        path="/v1/vcs/{provider}/callback",
        handler=callback,
        summary="Where a host sends the browser back to.",
        scopes=("public",),
        refusals=("general_provider_failure",),
        params=(_PROVIDER,),
        model="vcsEvent",
        replies=(Reply(302, (), "Where `authorize` was told to go."),),
    ),
    Route(
        name="vcs.events",
        method="POST",
        path="/v1/vcs/{provider}/events",
        handler=events,
        summary="Where git hosts send their webhooks.",
        description="Signed as the host does it; `installation` names whose secret was used.",
        scopes=("public",),
        refusals=("general_provider_failure", "installation_not_found", ("general_argument_invalid", 413)),
        params=(
            _PROVIDER,
            _query("installation", Text(0, 36), "Installation ID.", "installation_id", default=""),
            _query("project", Text(0, 36), "Project ID.", "", default=""),
        ),
        model="vcsEvent",
        body=Body.RAW,
    ),
)
