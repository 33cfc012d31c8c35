"""People on the wire: exactly the described keys, no null, and nobody sees what is not for him (clients 2.1)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hearth.api import wire_people
from hearth.api.openapi.models import MODELS
from hearth.api.people_grammar import EMAIL, LABEL, PHONE, PHONE_OR_NONE, TEAM_ROLE, IdOr, JsonObject, Pattern
from hearth.api.validators import Invalid
from hearth.control.memberships import MembershipView
from hearth.model.actor import Actor, ActorKind
from hearth.model.people import CONSOLE, Membership, Session, Team, Token, User

NOW = datetime(2026, 11, 24, 10, 20, 30, 123_000, tzinfo=UTC)
KEY = Actor(ActorKind.KEY, frozenset())
ANN = Actor(ActorKind.USER, frozenset(), user_id="ann")
BOB = Actor(ActorKind.USER, frozenset(), user_id="bob")
USER = User(
    "ann", "p1", NOW, NOW, NOW, email="ann@example.com", name="Ann", password_hash="$argon2id$v=19$m=8,t=1,p=1$a$b"
)
BARE = User("bare", "p1", NOW, NOW, NOW)
SESSION = Session("s1", "p1", "ann", NOW, NOW, NOW + timedelta(days=1), "hash", "email", user_agent="curl/8.0")
TEAM = Team("t1", "p1", NOW, NOW, "Red")
MEMBERSHIP = Membership("m1", "p1", "t1", "ann", NOW, NOW, NOW, ("owner",), NOW, confirmed=True)
VIEW = MembershipView(MEMBERSHIP, USER, TEAM)

SENT: list[tuple[str, dict[str, Any]]] = [
    ("account", wire_people.account(USER)),
    ("account", wire_people.account(BARE)),
    ("user", wire_people.user(USER)),
    ("user", wire_people.user(BARE)),
    ("session", wire_people.session(SESSION, current=True, secret="x")),
    ("token", wire_people.token(Token("k1", "p1", "ann", NOW, NOW, NOW, "hash"), "x")),
    ("team", wire_people.team(TEAM)),
    ("membership", wire_people.membership(VIEW, KEY)),
    ("membership", wire_people.membership(MembershipView(replace(MEMBERSHIP, joined_at=None), None, None), BOB)),
    ("jwt", wire_people.jwt("x")),
]


@pytest.mark.parametrize(("model", "payload"), SENT, ids=[f"{row[0]}-{index}" for index, row in enumerate(SENT)])
def test_what_is_sent_is_what_is_described_and_never_null(model: str, payload: dict[str, Any]) -> None:
    assert list(payload) == list(MODELS[model]["properties"])
    assert None not in payload.values()


def test_only_servers_see_anything_of_a_password() -> None:
    assert not {"password", "hash", "hashOptions"} & set(wire_people.account(USER))
    assert wire_people.user(USER)["hashOptions"] == {"type": "argon2", "memoryCost": 8, "timeCost": 1, "threads": 1}
    assert (wire_people.user(BARE)["password"], wire_people.user(BARE)["hash"]) == ("", "")


def test_stored_hashes_of_secrets_are_never_sent() -> None:
    assert "hash" not in str(wire_people.session(SESSION, current=True))
    assert "hash" not in str(wire_people.token(Token("k1", "p1", "ann", NOW, NOW, NOW, "hash")))


@pytest.mark.parametrize(
    ("actor", "project", "shown"),
    [(KEY, "p1", True), (ANN, "p1", True), (BOB, "p1", False), (BOB, CONSOLE, True)],
    ids=["a key", "himself", "another member", "in the console"],
)
def test_who_a_member_is_is_not_for_everybody(actor: Actor, project: str, shown: bool) -> None:
    view = replace(VIEW, membership=replace(MEMBERSHIP, project_id=project))
    seen = wire_people.membership(view, actor)
    assert (seen["userName"] == "Ann", seen["userEmail"] == "ann@example.com") == (shown, shown)
    assert seen["userId"] == "ann"


ACCEPTED: list[tuple[Any, list[Any], list[Any]]] = [
    (
        EMAIL,
        ["a@b.cd", "first.last+tag@sub.example.org", "x" * 64 + "@example.com"],
        ["", "a", "a@b", "@b.cd", "a@", "a b@c.de", "a@b..cd", "a@-b.cd", "x" * 65 + "@b.cd", "a@b.cd\n", 1, None],
    ),
    (PHONE, ["+4912345678"], ["", "04912345678", "+0123456789", "+123456", "+1234567890123456", "+49 123 4567"]),
    (PHONE_OR_NONE, ["", "+4912345678"], ["x"]),
    (LABEL, ["vip", "A1", "x" * 36], ["", "a-b", "ü", "x" * 37]),
    (TEAM_ROLE, ["owner", "project-p1-owner", "r" * 81], ["", "_x", "a b", "a/b", "r" * 82]),
    (IdOr(("current",)), ["current", "abc"], ["_x", "", "x" * 37, 1]),
    (JsonObject(20), [{}, {"a": 1}], [[], "x", None, {"a": "x" * 20}, {"a": "\ud800"}]),
]


@pytest.mark.parametrize(("validator", "good", "bad"), ACCEPTED, ids=[str(index) for index in range(len(ACCEPTED))])
def test_what_people_are_described_by(validator: Pattern, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert validator.check(value) == value
    for value in bad:
        with pytest.raises(Invalid):
            validator.check(value)


def test_a_mail_address_takes_no_time_to_refuse() -> None:
    """The pattern must not backtrack: these would take for ever if it did."""
    for text in ("a" * 254, "a@" + "a-" * 126, "a@" + "a." * 126, "." * 64 + "@" + "a" * 189):
        with pytest.raises(Invalid):
            EMAIL.check(text)
