"""Validators and models of what stands around functions: what is accepted, and that answers are as described."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from hearth.api import payloads, wire_hosting
from hearth.api.hosting_grammar import Date, Domain, Payload, RedirectStatus, Url
from hearth.api.openapi.parameters import schema_of
from hearth.api.validators import Invalid
from hearth.control import templates
from hearth.model.people import Session, User
from hearth.model.resources import ApiKey, Platform, Project, Rule, Webhook
from tests.api.support import DEPLOYMENT, EXECUTION, FUNCTION, NOW, SECRET
from tests.api.test_openapi import schema_errors

KEY = ApiKey("k", "p", "Key", "hash", ("users.read",), NOW, NOW)
WEBHOOK = Webhook("h", "p", NOW, NOW, "Hook", "https://example.com", ("users.*",), "secret", auth_password="password")
RULE = Rule("r", "p", NOW, NOW, "a.functions.localhost", "redirect", redirect_status_code=301)

SENT: list[tuple[str, dict[str, Any]]] = [
    ("project", wire_hosting.project(Project("p", "Project", NOW, NOW, services_off=("functions",)))),
    ("key", wire_hosting.key(KEY)),
    ("ephemeralKey", wire_hosting.key(KEY, "secret")),
    *(
        ("platform", wire_hosting.platform(Platform("w", "p", NOW, NOW, type, "App", "id")))
        for type in wire_hosting.PLATFORM_FIELDS
    ),
    ("proxyRule", wire_hosting.rule(RULE)),
    ("webhook", wire_hosting.webhook(WEBHOOK)),
    ("templateFunction", dict(templates.find("starter"))),
]


@pytest.mark.parametrize(("model", "payload"), SENT, ids=[f"{row[0]}-{n}" for n, row in enumerate(SENT)])
def test_what_is_sent_is_what_is_described_and_never_null(model: str, payload: dict[str, Any]) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(payload))
    assert schema_errors({"$ref": f"#/components/schemas/{model}"}, sent) == []
    assert None not in payload.values()


def test_a_webhook_tells_its_secret_only_when_it_is_new_and_its_password_never() -> None:
    later, first = wire_hosting.webhook(WEBHOOK), wire_hosting.webhook(WEBHOOK, with_secret=True)
    assert (later["secret"], later["signatureKey"], first["secret"], first["signatureKey"]) == (
        "",
        "",
        "secret",
        "secret",
    )
    assert "password" not in (later["authPassword"], later["httpPass"], first["authPassword"], first["httpPass"])


def test_payloads_of_events_hide_what_their_hearers_may_not_see() -> None:
    owner, reader = payloads.owner_payload(EXECUTION), payloads.reader_payload(EXECUTION)
    assert owner is not None and reader is not None
    assert (owner["logs"], reader["logs"], reader["errors"]) == ("a log\n", "", "")
    assert "scheduledAt" not in owner
    secret = payloads.owner_payload(SECRET)
    assert secret is not None and secret["value"] == ""
    user = payloads.owner_payload(User("u", "p", NOW, NOW, NOW, password_hash="$argon2id$v=19$m=1,t=1,p=1$a$b"))
    assert user is not None and not {"password", "hash", "hashOptions"} & set(user)
    session = payloads.owner_payload(Session("s", "p", "u", NOW, NOW, NOW, "hash", "email"))
    assert session is not None and session["secret"] == ""
    for subject in (DEPLOYMENT, FUNCTION, RULE):
        assert (payloads.owner_payload(subject) or {})["$id"] == subject.id
    assert payloads.owner_payload(object()) is None


VALUES: list[tuple[Any, list[tuple[Any, Any]], list[Any]]] = [
    (
        Date(),
        [
            ("2026-11-24T10:00:00+01:00", datetime(2026, 11, 24, 9, tzinfo=UTC)),
            ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ],
        ["", "tomorrow", 5, None],
    ),
    (
        Domain(),
        [("App.Example.com", "app.example.com"), ("a.b.", "a.b"), ("xn--bcher-kva.example", "xn--bcher-kva.example")],
        [
            "",
            "localhost",
            "http://a.b",
            "a.b:80",
            "a.b/c",
            "a..b",
            "-a.b",
            "*.a.b",
            "1.2.3.4",
            "a" * 64 + ".b",
            "bücher.example",
            5,
        ],
    ),
    (Domain(wildcard=True), [("*.a.b", "*.a.b"), ("localhost", "localhost")], ["a.*", "**.b", "*", ""]),
    (
        Url(),
        [("https://example.com:8443/p?q#f", "https://example.com:8443/p?q#f"), ("http://[::1]/", "http://[::1]/")],
        [
            "",
            "example.com",
            "ftp://a.b",
            "http://",
            "http://u:p@a.b",
            "http://a.b:0",
            "http://a b",
            "http://a.b\n",
            "x" * 3000,
            5,
        ],
    ),
    (RedirectStatus(), [(301, 301), ("308", 308)], [200, 303, "", None, True]),
    (Payload(16), [({}, {}), ({"a": [1]}, {"a": [1]})], [[], "text", None, {"a": "x" * 16}]),
]


@pytest.mark.parametrize(("validator", "good", "bad"), VALUES, ids=[repr(row[0]) for row in VALUES])
def test_values_are_read_or_refused(validator: Any, good: list[tuple[Any, Any]], bad: list[Any]) -> None:
    for value, read in good:
        assert validator.check(value) == read
    for value in bad:
        with pytest.raises(Invalid):
            validator.check(value)
    assert {"type", "enum"} & set(schema_of(validator))
