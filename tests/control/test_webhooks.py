"""Webhook deliveries (contract: side-services 14): signed, durable, tried again, given up with a reason."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hearth.control.jobs import WEBHOOK_ATTEMPTS
from hearth.control.webhooks import FAILURES_MAX
from hearth.executor.sandbox.egress_policy import parse_allow_list
from hearth.outbound import poster as poster_module
from hearth.outbound.addresses import resolve
from hearth.outbound.poster import Poster
from hearth.ports import PostFailed
from tests.control.receivers import Receiver, Sender, receiver, self_signed, sender

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def ours(tmp_path: Path) -> AsyncIterator[Sender]:
    async with sender(tmp_path) as made:
        yield made


async def add(ours: Sender, url: str, **fields: Any) -> None:
    settings = {"name": "Höok\n1", "events": ["users.*.create"], "secret": "signature key", **fields}
    await ours.webhooks.create("p", webhook_id="h", url=url, **settings)


async def test_a_delivery_says_who_it_is_from_and_is_signed(ours: Sender, there: Receiver) -> None:
    await add(ours, there.url, auth_username="u", auth_password="pä")
    ours.happened("users.U.create", {"$id": "U", "name": "Ü"}, user_id="admin")
    await ours.queued(1)
    assert await ours.attempts() == 1
    (got,) = there.received
    assert (got.path, json.loads(got.body)) == ("/hook?x=1", {"$id": "U", "name": "Ü"})
    mac = hmac.new(b"signature key", there.url.encode() + got.body, hashlib.sha1)
    assert got.headers["x-appwrite-webhook-signature"] == base64.b64encode(mac.digest()).decode()
    assert got.headers["x-appwrite-webhook-events"] == "users.U.create,users.*.create,users.U,users.*"
    assert got.headers["x-appwrite-webhook-id"] == "h"
    assert got.headers["x-appwrite-webhook-name"].encode("latin-1").decode() == "Höok 1"
    assert got.headers["x-appwrite-webhook-user-id"] == "admin"
    assert got.headers["x-appwrite-webhook-project-id"] == "p"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{there.port}"
    assert got.headers["authorization"] == "Basic " + base64.b64encode("u:pä".encode()).decode()


async def test_only_what_a_webhook_asked_for_is_sent(ours: Sender, there: Receiver) -> None:
    await add(ours, there.url, events=["users.*.create", "functions.F"])
    for event in ("users.U.update.name", "functions.G.create", "teams.T.create"):
        ours.happened(event)
    ours.happened("functions.F.executions.E.create")
    ours.happened("users.U.create", object())  # has no wire form
    await ours.queued(1)
    assert await ours.attempts() == 1
    assert there.received[0].headers["x-appwrite-webhook-events"].startswith("functions.F.executions.E.create,")


async def test_a_delivery_survives_a_restart(tmp_path: Path, there: Receiver) -> None:
    there.answers = [503, 200]
    async with sender(tmp_path) as ours:
        await add(ours, there.url)
        ours.happened("users.U.create", {"$id": "U"})
        await ours.queued(1)
        assert await ours.attempt() == 1
        assert "answered 503: thanks" in (await ours.webhook()).logs
        # What was heard just before the stop is committed by it.
        ours.happened("users.V.create", {"$id": "V"})
    async with sender(tmp_path) as ours:
        assert len(await ours.store.jobs.unfinished()) == 2
        await ours.attempts()
        assert sorted(json.loads(got.body)["$id"] for got in there.received) == ["U", "U", "V"]
        assert ((await ours.webhook()).attempts, (await ours.webhook()).logs) == (0, "")
        assert await ours.store.jobs.unfinished() == ()


async def test_a_delivery_that_never_arrives_is_given_up_with_the_reason(ours: Sender, there: Receiver) -> None:
    there.answers, there.text = [500], "sorry" * 500
    await add(ours, there.url)
    ours.happened("users.U.create")
    await ours.queued(1)
    assert await ours.attempts() == WEBHOOK_ATTEMPTS == len(there.received)
    webhook = await ours.webhook()
    assert (webhook.attempts, webhook.enabled) == (1, True)
    assert webhook.logs.startswith("The address answered 500: sorrysorry")
    assert len(webhook.logs) < 600


async def test_a_webhook_is_switched_off_after_ten_failures_in_a_row_and_starts_anew(
    ours: Sender, there: Receiver
) -> None:
    there.answers = [404]
    await add(ours, there.url)
    for number in range(FAILURES_MAX):
        ours.happened("users.U.create", {"number": number})
    await ours.queued(FAILURES_MAX)
    await ours.attempts()
    webhook = await ours.webhook()
    assert (webhook.enabled, webhook.attempts) == (False, FAILURES_MAX)
    assert "Switched off after 10 deliveries" in webhook.logs
    sent = len(there.received)
    ours.happened("users.U.create")
    await ours.queued(1)
    await ours.attempts()
    assert len(there.received) == sent
    assert not ours.book.has("p")
    there.answers = [200]
    await ours.webhooks.update("p", "h", name="H", url=there.url, events=["users.*.create"])
    ours.happened("users.U.create")
    await ours.queued(1)
    await ours.attempts()
    assert len(there.received) == sent + 1
    assert ((await ours.webhook()).attempts, (await ours.webhook()).logs) == (0, "")


async def test_a_redirect_is_an_answer_and_is_not_followed(ours: Sender, there: Receiver) -> None:
    there.answers = [302, 200]
    await add(ours, there.url)
    ours.happened("users.U.create")
    await ours.queued(1)
    assert await ours.attempt() == 1
    assert len(there.received) == 1
    assert "answered 302" in (await ours.webhook()).logs


async def test_a_receiver_that_does_not_answer_is_left_after_a_bound(
    ours: Sender, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poster_module, "TOTAL_S", 0.1)
    there.slow = asyncio.Event()
    await add(ours, there.url)
    ours.happened("users.U.create")
    await ours.queued(1)
    try:
        assert await ours.attempt() == 1
        assert "did not answer within 0.1 seconds" in (await ours.webhook()).logs
    finally:
        there.slow.set()


async def test_a_deleted_webhook_is_told_nothing_more(ours: Sender, there: Receiver) -> None:
    await add(ours, there.url)
    ours.happened("users.U.create")
    await ours.queued(1)
    await ours.webhooks.delete("p", "h")
    assert await ours.attempts() == 1
    assert there.received == []


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:{port}/", "127.0.0.1"),
        ("http://localhost:{port}/", "127.0.0.1"),
        ("http://[::1]:{port}/", "::1"),
        ("http://[::ffff:127.0.0.1]:{port}/", "::ffff:7f00:1"),
        ("http://10.1.2.3/", "10.1.2.3"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        ("http://0.0.0.0:{port}/", "0.0.0.0"),
        ("http://2130706433:{port}/", "127.0.0.1"),
        ("http://0x7f.1:{port}/", "127.0.0.1"),
    ],
)
async def test_private_addresses_are_refused_unless_the_operator_opened_them(
    tmp_path: Path, there: Receiver, url: str, address: str
) -> None:
    async with sender(tmp_path, allow="") as ours:
        await add(ours, url.format(port=there.port))
        ours.happened("users.U.create")
        await ours.queued(1)
        # Trying again would change nothing.
        assert await ours.attempts() == 1
        webhook = await ours.webhook()
    assert there.received == []
    assert webhook.logs.startswith("Not allowed: ")
    assert (webhook.attempts, address in webhook.logs, "HEARTH_EGRESS_ALLOW" in webhook.logs) == (1, True, True)


async def test_a_certificate_is_checked_for_the_name_unless_tls_is_off(tmp_path: Path) -> None:
    async with receiver(self_signed("localhost", tmp_path)) as there:
        poster = Poster(parse_allow_list([f"localhost:{there.port}"]))
        try:
            with pytest.raises(PostFailed, match="certificate") as failed:
                await poster.post(f"https://localhost:{there.port}/", {}, b"", verify=True)
            assert failed.value.again
            posted = await poster.post(f"https://localhost:{there.port}/", {}, b"", verify=False)
        finally:
            await poster.close()
    assert posted.status == 200
    assert there.server_names == ["localhost", "localhost"]


async def test_a_name_is_opened_with_its_port_only(there: Receiver) -> None:
    for allow, port, allowed in (
        (f"localhost:{there.port}", there.port, True),
        (f"localhost:{there.port}", there.port + 1, False),
        ("127.0.0.0/8", there.port, True),
    ):
        poster = Poster(parse_allow_list([allow]))
        try:
            if allowed:
                host = "localhost" if "localhost" in allow else "127.0.0.1"
                posted = await poster.post(f"http://{host}:{port}/", {}, b"", verify=True)
                assert (posted.status, posted.text) == (200, "thanks")
            else:
                with pytest.raises(PostFailed, match="Not allowed") as failed:
                    await poster.post(f"http://localhost:{port}/", {}, b"", verify=True)
                assert not failed.value.again
        finally:
            await poster.close()


async def test_a_name_without_an_address_has_none() -> None:
    assert await resolve("does-not-exist.invalid") == frozenset()
    assert await resolve("127.0.0.1") == frozenset({"127.0.0.1"})
