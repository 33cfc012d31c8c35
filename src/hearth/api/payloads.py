"""The payload of an event: the wire form of the resource it happened to, for those who hear of it."""

from collections.abc import Callable, Mapping
from typing import Any

from hearth.api import wire, wire_hosting, wire_people
from hearth.control.memberships import MembershipView
from hearth.control.views import FunctionView
from hearth.model.actor import Actor, ActorKind
from hearth.model.events import Published
from hearth.model.people import Session, Team, Token, User
from hearth.model.resources import Deployment, Execution, Function, Rule, Variable

_OWNER = Actor(ActorKind.ADMIN, frozenset())
_READER = Actor(ActorKind.USER, frozenset())


def _execution(it: Any, actor: Actor) -> Mapping[str, Any]:
    payload = wire.execution(it, actor)
    if payload["scheduledAt"] is None:
        del payload["scheduledAt"]  # some clients reject a null here (contract: clients 2.1)
    return payload


#: By the type of the subject: its form for an owner of the project, or for somebody who may only read it.
_FORMS: dict[type, Callable[[Any, Actor], Mapping[str, Any]]] = {
    Execution: _execution,
    Deployment: lambda it, actor: wire.deployment(it),
    Function: lambda it, actor: wire.function(FunctionView(it, ())),
    Variable: lambda it, actor: wire.variable(it),
    Rule: lambda it, actor: wire_hosting.rule(it),
    User: lambda it, actor: wire_people.account(it),  # never with the hash of a password
    Session: lambda it, actor: wire_people.session(it, current=False),
    Token: lambda it, actor: wire_people.token(it),
    Team: lambda it, actor: wire_people.team(it),
    MembershipView: wire_people.membership,
    Published: lambda it, actor: it.payload,
}


def owner_payload(subject: object) -> Mapping[str, Any] | None:
    """As the owners of the project see it (webhooks, the console); None for what has no form."""
    form = _FORMS.get(type(subject))
    return None if form is None else form(subject, _OWNER)


def reader_payload(subject: object) -> Mapping[str, Any] | None:
    """As a user who may read it sees it: without logs and errors."""
    form = _FORMS.get(type(subject))
    return None if form is None else form(subject, _READER)
