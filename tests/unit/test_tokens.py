"""Ephemeral keys and user JWTs: only ours, only while valid, only for their project, and never one for the other."""

import time

import jwt
import pytest

from hearth.auth.tokens import Tokens

SECRET = b"s" * 32


def test_a_minted_key_reads_back_as_what_it_was_made_for() -> None:
    tokens = Tokens(SECRET)
    key = tokens.read(tokens.mint("p1", ("users.read",), 60))
    assert key is not None
    assert (key.project_id, key.scopes) == ("p1", frozenset({"users.read"}))


def test_a_minted_key_is_a_plain_hs256_jwt() -> None:
    text = Tokens(SECRET).mint("p1", (), 60).removeprefix("ephemeral_")
    claims = jwt.decode(text, SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == 60


def test_the_older_prefix_is_accepted() -> None:
    tokens = Tokens(SECRET)
    assert tokens.read("dynamic_" + tokens.mint("p1", (), 60).removeprefix("ephemeral_")) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ephemeral_",
        "ephemeral_a.b.c",
        Tokens(SECRET).mint("p1", (), 60).removeprefix("ephemeral_"),
        Tokens(SECRET).mint("p1", (), -1),
        Tokens(b"t" * 32).mint("p1", (), 60),
        "ephemeral_" + jwt.encode({"projectId": "p1", "exp": int(time.time()) + 60}, "", algorithm="none"),
        "ephemeral_" + jwt.encode({"projectId": "p1", "scopes": []}, SECRET, algorithm="HS256"),
        "ephemeral_" + jwt.encode({"scopes": [], "exp": int(time.time()) + 60}, SECRET, algorithm="HS256"),
    ],
    ids=[
        "empty",
        "prefix-only",
        "junk",
        "no-prefix",
        "expired",
        "foreign-secret",
        "unsigned",
        "no-expiry",
        "no-project",
    ],
)
def test_anything_else_is_no_key(text: str) -> None:
    assert Tokens(SECRET).read(text) is None


def test_a_key_that_was_read_before_still_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(SECRET)
    text = tokens.mint("p1", (), 60)
    key = tokens.read(text)
    assert key is not None
    assert tokens.read(text) is key
    now = time.time()
    monkeypatch.setattr("hearth.auth.tokens.time.time", lambda: now + 61)
    monkeypatch.setattr(tokens, "_claims", lambda text: {})  # what checks it anew looks at a clock of its own
    assert tokens.read(text) is None


def test_a_user_jwt_reads_back_as_what_it_was_made_for() -> None:
    tokens = Tokens(SECRET)
    claim = tokens.read_user_jwt(tokens.mint_user_jwt("p1", "u1", "s1", 60))
    assert claim is not None
    assert (claim.project_id, claim.user_id, claim.session_id) == ("p1", "u1", "s1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b.c",
        Tokens(SECRET).mint_user_jwt("p1", "u1", "s1", 0),
        Tokens(b"t" * 32).mint_user_jwt("p1", "u1", "s1", 60),
        Tokens(SECRET).mint_user_jwt("p1", "", "s1", 60),
        Tokens(SECRET).mint("p1", (), 60).removeprefix("ephemeral_"),
        jwt.encode({"projectId": "p1", "userId": "u1", "sessionId": ""}, SECRET, algorithm="HS256"),
        jwt.encode({"userId": "u1", "sessionId": "", "exp": int(time.time()) + 60}, SECRET, algorithm="HS256"),
    ],
    ids=["empty", "junk", "expired", "foreign-secret", "no-user", "a-key", "no-expiry", "no-project"],
)
def test_anything_else_is_no_user_jwt(text: str) -> None:
    assert Tokens(SECRET).read_user_jwt(text) is None


def test_a_user_jwt_is_no_key() -> None:
    """A key is not bound by permissions, so a user must not be able to make one of his JWT."""
    tokens = Tokens(SECRET)
    assert tokens.read("ephemeral_" + tokens.mint_user_jwt("p1", "u1", "s1", 60)) is None
