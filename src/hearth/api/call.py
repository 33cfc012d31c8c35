"""What a handler is given: the caller, the checked arguments, and the way to control."""

from collections.abc import Mapping
from typing import Any, Protocol

from hearth.api.budget import Budget
from hearth.api.formats import Version, shape
from hearth.api.limits import RateLimits
from hearth.api.messages import Answer, Request, json_answer
from hearth.api.routes import Route
from hearth.api.settings import ApiSettings
from hearth.auth.identify import Credentials
from hearth.control.control import Control
from hearth.model.actor import Actor
from hearth.ports import Clock


class Identify(Protocol):
    """Says who is calling. `hearth.auth.identify.Identify` is the one implementation."""

    async def identify(self, credentials: Credentials) -> Actor:
        """Raises Refusal for credentials that are refused rather than ignored."""

    def recall(self, text: str, header_project_id: str) -> Actor | None:
        """The bearer of a key that is known without waiting, or None."""


class Services:
    """What every request of one application shares."""

    __slots__ = ("clock", "control", "identify", "limits", "memory", "settings", "uploads")

    def __init__(
        self,
        *,
        control: Control,
        identify: Identify,
        settings: ApiSettings,
        clock: Clock,
        limits: RateLimits,
        memory: Budget,
        uploads: Budget,
    ) -> None:
        self.control = control
        self.identify = identify
        self.settings = settings
        self.clock = clock
        self.limits = limits
        self.memory = memory
        self.uploads = uploads


class Call:
    """One authorised request for one route. `arguments` are the checked parameters by their control names."""

    __slots__ = ("actor", "arguments", "client_ip", "path", "project_id", "request", "route", "services", "version")

    def __init__(
        self,
        *,
        request: Request,
        route: Route,
        path: dict[str, str],
        project_id: str,
        actor: Actor,
        version: Version | None,
        client_ip: str,
        services: Services,
    ) -> None:
        self.request = request
        self.route = route
        self.path = path
        self.project_id = project_id
        self.actor = actor
        self.version = version
        self.client_ip = client_ip
        self.services = services
        self.arguments: dict[str, Any] = {}

    @property
    def control(self) -> Control:
        return self.services.control

    def reply(
        self, payload: dict[str, Any], status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """An answer with `payload` (in the newest format) as the caller's format shows it."""
        return json_answer(status or self.route.success, shape(self.version, self.route.model, payload), headers)
