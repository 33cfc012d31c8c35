"""Where a request carries a session, and what is taken for one (clients 5.2, 6; functions-api 15)."""

import base64
import json

import pytest

from hearth.api.user_agents import describe
from hearth.auth.sessions import fallback_session, hash_secret, new_secret, pack, session_cookie, unpack

TEXT = pack("u1", "s3cret")


def test_what_a_client_is_given_names_the_user_and_the_secret() -> None:
    assert unpack(TEXT) == ("u1", "s3cret")
    assert json.loads(base64.b64decode(TEXT)) == {"id": "u1", "secret": "s3cret"}


def test_a_session_survives_escaping_and_lost_padding() -> None:
    assert unpack(TEXT.replace("=", "%3D")) == ("u1", "s3cret")
    assert unpack(TEXT.rstrip("=")) == ("u1", "s3cret")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "\x00",
        "ü",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b'{"id":"u1"}').decode(),
        base64.b64encode(b'{"id":1,"secret":"s"}').decode(),
        base64.b64encode(b'{"id":"","secret":"s"}').decode(),
        base64.b64encode(b'{"id":"' + b"u" * 37 + b'","secret":"s"}').decode(),
        "A" * 5_000,
    ],
)
def test_anything_else_is_no_session(text: str) -> None:
    assert unpack(text) is None


def test_secrets_differ_and_are_not_stored_as_they_are() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(first) >= 64
    assert first not in hash_secret(first)
    assert hash_secret(first) != hash_secret(second)


COOKIES = [
    ("alone", f"a_session_p1={TEXT}", TEXT),
    ("among others", f"x=1; a_session_p1={TEXT}; y=2", TEXT),
    (
        "a whole Set-Cookie line",
        f"a_session_p1={TEXT}; expires=Fri, 01 Jan 2030 00:00:00 GMT; path=/; httponly; samesite=None",
        TEXT,
    ),
    ("quoted", f'a_session_p1="{TEXT}"', TEXT),
    ("only the twin for old browsers", f"a_session_p1_legacy={TEXT}", TEXT),
    ("the cookie before its twin", f"a_session_p1_legacy=old; a_session_p1={TEXT}", TEXT),
    ("an empty one with its twin", f"a_session_p1=; a_session_p1_legacy={TEXT}", TEXT),
    ("of another project", f"a_session_p2={TEXT}", ""),
    ("of a project whose name begins alike", f"a_session_p10={TEXT}", ""),
    ("none", "httponly; path=/", ""),
    ("nothing at all", "", ""),
]


@pytest.mark.parametrize(("name", "header", "expected"), COOKIES, ids=[row[0] for row in COOKIES])
def test_cookies_are_read_leniently(name: str, header: str, expected: str) -> None:
    assert session_cookie(header, "p1") == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (json.dumps({"a_session_p1": TEXT}), TEXT),
        (json.dumps({"a_session_p2": TEXT}), ""),
        (json.dumps({"a_session_p1": 1}), ""),
        ("[]", ""),
        ("{", ""),
        ("", ""),
        ("x" * 100_000, ""),
    ],
)
def test_the_fallback_header_is_a_json_object(header: str, expected: str) -> None:
    assert fallback_session(header, "p1") == expected


AGENTS = [
    ("AppwriteNodeJSSDK/27.1.0 (linux; x64) Node.js/v20", ("Appwrite Node.js SDK", "27.1.0", "GNU/Linux", "")),
    ("AppwriteCLI/12.0.1 (Linux)", ("Appwrite CLI", "12.0.1", "GNU/Linux", "")),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
        ("Chrome", "120.0.0.0", "Windows", "desktop"),
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36 Edg/120.1",
        ("Microsoft Edge", "120.1", "Windows", "desktop"),
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1 (KHTML, like Gecko) "
        "Version/17.1 Mobile/15E148 Safari/604.1",
        ("Safari", "17.1", "iOS", "smartphone"),
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
        ("Firefox", "120.0", "GNU/Linux", "desktop"),
    ),
    ("", ("", "", "", "")),
    ("x" * 100_000, ("", "", "", "")),
]


@pytest.mark.parametrize(
    ("agent", "expected"), AGENTS, ids=[row[1][0] or str(index) for index, row in enumerate(AGENTS)]
)
def test_a_session_shows_what_the_user_agent_says(agent: str, expected: tuple[str, ...]) -> None:
    seen = describe(agent)
    assert (seen["clientName"], seen["clientVersion"], seen["osName"], seen["deviceName"]) == expected
