"""Which host a request is for: the API, or a domain with a rule (contract: functions-api 1 check 1, 13).

A visit is answered by the function itself; what stands in its way is told in an HTML page, never in JSON.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from html import escape

from hearth.api.call import Services
from hearth.api.client_address import client_address
from hearth.api.errors import REQUEST_ID_HEADER, described
from hearth.api.messages import HTML_TYPE, Answer, ClientGone, RawHeader, Request
from hearth.control.invocations import ShownHeaders
from hearth.control.rules import API, REDIRECT
from hearth.control.views import ExecutionView
from hearth.model.headers import EXECUTION_ID, Kept, KnownPairs
from hearth.model.refusals import Refusal
from hearth.model.resources import Header, Rule

#: Where the scope of a request has its answer, if that is known already (the hot lane hands it over).
ANSWER = "hearth.answer"
#: What stands for a route where a function's domain is visited.
VISIT = "visit"
#: Bytes of a visitor's body (contract: functions-api 4, execution `body`).
BODY_MAX_BYTES = 10_485_760
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"})
#: Bodies up to this many bytes are not counted against the memory budget.
_UNCOUNTED_BYTES = 64 * 1024
_ACME_PATH = [".well-known", "acme-challenge"]
#: What belongs to one connection, and what a function must be able to trust, is not passed on (RFC 9110, 7.6.1).
_NOT_PASSED_IN = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_OWN_PREFIXES = ("x-appwrite-", "x-open-runtimes-")
#: The length is that of the body as it goes out.
_NOT_PASSED_OUT = _NOT_PASSED_IN | {"content-length"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*\Z")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:34rem;padding:0 1rem}}</style></head>
<body><h1>{title}</h1><p>{message}</p><p><code>{type}</code></p></body></html>
"""


class Gateway:
    """Tells function domains from the API's own host names. The server never insists on its own name."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._rules = services.control.rule_book
        self._domain = services.settings.functions_domain.lower().strip(".")
        self._ending = "." + self._domain

    def is_function_host(self, host: str) -> bool:
        """Whether `host` (a Host header, with or without port) is the functions domain or below it."""
        if not self._domain or self._domain not in host.lower():
            return False
        name = host_name(host)
        return name == self._domain or name.endswith(self._ending)

    @property
    def has_custom_hosts(self) -> bool:
        """Whether there are rules for hosts beyond the functions domain, so that any host may be a function's."""
        return self._rules.has_custom

    async def answer(self, request: Request) -> Answer | None:
        """The answer to a visit; None when the request is for the API. Raises only ClientGone."""
        given = request.scope.get(ANSWER)
        if given is not None:
            request.route, request.body_done = VISIT, True
            answer: Answer = given
            return answer
        host = request.header(b"host")
        below = self.is_function_host(host)
        if not below and not self._rules.has_custom:
            return None
        name = host_name(host)
        rule = self._rules.find(name)
        if (rule is None and not below) or request.segments[:2] == _ACME_PATH:
            return None
        request.route = VISIT
        try:
            if rule is None:
                raise self._unknown(name)
            if rule.type == API:
                request.route = ""
                return None
            return _redirect(rule, request) if rule.type == REDIRECT else await self._visit(rule, request)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the top of a request: whatever it is becomes its page
            return failed_visit(error, request.method, name, rule.project_id if rule else "")

    def rule_of_visit(self, name: str) -> Rule | None:
        """The rule under which `name` shows the active deployment of a function; None for every other name."""
        rule = self._rules.find(name) if name.endswith(self._ending) else None
        if rule is None or rule.type in (API, REDIRECT) or rule.branch or rule.trigger != "manual":
            return None
        return rule

    def _unknown(self, name: str) -> Refusal:
        if name == self._domain:
            return Refusal("general_access_forbidden", "This name serves functions; open the domain of one.")
        return Refusal("rule_not_found", "No function is reachable under this domain.")

    async def _visit(self, rule: Rule, request: Request) -> Answer:
        if request.method not in METHODS:
            raise Refusal("general_not_implemented", f"The method {request.method[:32]} is not known here.")
        body = await self._body(request)
        view = await self._services.control.executions.visit(
            rule.project_id,
            rule.resource_id,
            rule.deployment_id if rule.branch or rule.trigger != "manual" else "",
            method=request.method,
            path=path_of(request),
            headers=passed_headers(request.headers),
            body=body,
            client_ip=client_address(request, self._services.settings.trusted_proxies),
        )
        return visit_view_answer(view)

    async def _body(self, request: Request) -> bytes:
        """The whole body, within its limit and the memory budget of all requests."""
        announced = request.announced_bytes()
        expected = BODY_MAX_BYTES if announced is None else announced
        if not _UNCOUNTED_BYTES < expected <= BODY_MAX_BYTES:
            return await request.body(BODY_MAX_BYTES)
        self._services.memory.take(expected)
        try:
            return await request.body(BODY_MAX_BYTES)
        finally:
            self._services.memory.give_back(expected)


def host_name(host: str) -> str:
    """The name in a Host header: lower case, without port and final period."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).lower().rstrip(".")


def path_of(request: Request) -> str:
    """The path as it was sent, still encoded, with its query."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw.partition(b"?")[0]
    return (path + b"?" + request.query_string if request.query_string else path).decode("latin-1")


def passed_headers(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """What the function is given of a visitor's headers: all, cookies in one, except what is not his to say."""
    passed = {}
    for raw_name, raw_value in headers.items():
        name = raw_name.decode("latin-1")
        if name not in _NOT_PASSED_IN and not name.startswith(_OWN_PREFIXES):
            passed[name] = raw_value.decode("latin-1")
    return passed


def failed_visit(error: Exception, method: str, name: str, project_id: str) -> Answer:
    """The page for a visit of the host `name` that came to nothing; the log has the reason."""
    status, type, message, headers = described(error, method=method, route=f"visit {name}", project_id=project_id)
    return _page(status, type, message, headers)


def visit_view_answer(view: ExecutionView) -> Answer:
    """What a visited function answered, or streams."""
    stream = view.stream
    if stream is not None:
        return visit_answer(stream.status_code, view.response_headers, b"", stream)
    return visit_answer(view.execution.response_status_code, view.response_headers, view.response_body)


def _redirect(rule: Rule, request: Request) -> Answer:
    url = rule.redirect_url
    if request.query_string:
        url += ("&" if "?" in url else "?") + request.query_string.decode("latin-1")
    status = rule.redirect_status_code or 301
    return Answer(status, b"", b"", [(b"location", url.encode("latin-1"))], is_visit=True)


def visit_answer(
    status: int, headers: Sequence[Header], body: bytes, stream: AsyncIterator[bytes] | None = None
) -> Answer:
    """What the function answered, as it is, or as it streams it; an error without a body gets a page of ours."""
    # A function can answer anything; what is no final status of HTTP would end the connection.
    status = status if 200 <= status <= 599 else 500
    passed = _own_headers(headers)
    if stream is not None:
        return Answer(status, b"", b"", passed, stream=stream, length=None, is_visit=True)
    if status < 400 or body:
        return Answer(status, body, b"", passed, is_visit=True)
    page = _page(status, "function_error", "The function answered with an error and said nothing about it.", {})
    kept = [header for header in passed if header[0] != b"content-type"]
    return Answer(status, page.body, HTML_TYPE, kept, is_visit=True)


def _own_headers(given: Sequence[Header]) -> list[RawHeader]:
    if type(given) is ShownHeaders and type(given.given) is KnownPairs:
        return [*_known_own.of(given.given), (EXECUTION_ID.encode(), given.execution_id.encode())]
    return _own_headers_of(given)


def _own_headers_of(given: Sequence[Header]) -> list[RawHeader]:
    headers = []
    for name, value in given:
        lowered = name.lower()
        if lowered in _NOT_PASSED_OUT or not _NAME.match(name) or not _VALUE.match(value):
            continue
        try:
            raw = value.encode("latin-1")
        except UnicodeEncodeError:
            raw = value.encode("utf-8", "replace")
        headers.append((lowered.encode("ascii"), raw))
    return headers


_known_own: Kept[KnownPairs, list[RawHeader]] = Kept(
    lambda given: _own_headers_of(ShownHeaders("", given, None).all()[:-1])  # without the id
)


def _page(status: int, type: str, message: str, headers: dict[str, str]) -> Answer:
    text = _PAGE.format(title=f"{status}", message=escape(message), type=escape(type))
    shown = {key: value for key, value in headers.items() if key in (REQUEST_ID_HEADER, "retry-after")}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in shown.items()]
    raw.append((b"cache-control", b"no-store"))
    return Answer(status, text.encode(), HTML_TYPE, raw, is_visit=True)
