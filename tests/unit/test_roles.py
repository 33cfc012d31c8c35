"""Who somebody is, and what that lets him do: roles of users, scopes of console people (functions-api 1.1, 1.2)."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from hearth.auth.scopes import admin_scopes, console_scopes, team_scopes
from hearth.model.people import Membership, User, roles_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)
USER = User("u1", "p1", NOW, NOW, NOW)
MEMBERSHIP = Membership("m1", "p1", "t1", "u1", NOW, NOW, NOW, ("owner", "editor"), NOW, confirmed=True)

ROLES: list[tuple[str, dict[str, Any], tuple[Membership, ...], set[str]]] = [
    ("nobody special", {}, (), {"user:u1/unverified", "users/unverified"}),
    ("verified by e-mail", {"email_verified": True}, (), {"user:u1/verified", "users/verified"}),
    ("verified by phone", {"phone_verified": True}, (), {"user:u1/verified", "users/verified"}),
    (
        "in a team",
        {},
        (MEMBERSHIP,),
        {"user:u1/unverified", "users/unverified", "team:t1", "member:m1", "team:t1/owner", "team:t1/editor"},
    ),
    (
        "only invited",
        {},
        (replace(MEMBERSHIP, confirmed=False),),
        {"user:u1/unverified", "users/unverified"},
    ),
    (
        "labelled",
        {"labels": ("vip", "beta")},
        (),
        {"user:u1/unverified", "users/unverified", "label:vip", "label:beta"},
    ),
]


@pytest.mark.parametrize(("name", "fields", "memberships", "expected"), ROLES, ids=[row[0] for row in ROLES])
def test_a_user_is_what_the_contract_says(
    name: str, fields: dict[str, Any], memberships: tuple[Membership, ...], expected: set[str]
) -> None:
    assert set(roles_of(replace(USER, **fields), memberships)) == {"any", "users", "user:u1"} | expected


def test_a_signed_in_user_is_no_guest() -> None:
    assert "guests" not in roles_of(USER, (MEMBERSHIP,))


def test_the_roles_of_an_organization_give_scopes_in_its_projects() -> None:
    for role in ("owner", "developer", "admin"):
        assert {"functions.write", "users.write", "executions.read"} <= admin_scopes((role,), "p1")
    assert admin_scopes(("viewer",), "p1") == {"teams.read", "projects.read"}


def test_a_role_for_one_project_gives_nothing_in_another() -> None:
    assert "functions.write" in admin_scopes(("project-p1-developer",), "p1")
    assert admin_scopes(("project-p1-developer",), "p2") == {"teams.read", "projects.read"}
    assert admin_scopes(("project-p1-owner",), "p") == {"teams.read", "projects.read"}, "p is only the beginning of p1"


def test_who_is_not_in_the_organization_has_no_scope_there() -> None:
    roles = roles_of(USER, (MEMBERSHIP,))
    assert "projects.write" in team_scopes(roles, "t1", "p1")
    assert team_scopes(roles, "t2", "p1") == frozenset()
    assert team_scopes(roles, "", "p1") == frozenset(), "a project of nobody"


def test_the_console_does_not_let_its_people_manage_its_people() -> None:
    assert console_scopes().isdisjoint({"users.read", "users.write", "functions.write"})
    assert "projects.write" in console_scopes()
