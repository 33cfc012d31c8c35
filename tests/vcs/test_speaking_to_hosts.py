"""Asking git hosts: tries again where that helps, says what is wrong, goes nowhere the operator did not open."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from hearth.executor.sandbox.egress_policy import parse_allow_list
from hearth.outbound import caller as caller_module
from hearth.outbound.caller import Caller
from hearth.ports import GitHostFailed, NoSuchRepository
from hearth.vcs.api import ANSWER_BYTES, TRIES, Api
from hearth.vcs.gitea import Gitea
from tests.support.forges.gitea import TOKEN
from tests.support.forges.kinds import Side, side
from tests.support.forges.standin import Fault

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def gitea() -> AsyncIterator[Side]:
    async with side("gitea") as made:
        yield made


async def ask(at: Side) -> str:
    found = at.server.world.repositories[100]
    return (await at.host.repository(at.installation, at.id(found))).name


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_question_is_asked_again_after_the_time_the_host_named(gitea: Side, status: int) -> None:
    gitea.add("shop")
    gitea.server.faults = [Fault(status, {"Retry-After": "3"}), Fault(status)]
    assert await ask(gitea) == "shop"
    assert gitea.slept == [3.0, 2.0]


async def test_it_is_not_asked_for_ever(gitea: Side) -> None:
    gitea.add("shop")
    gitea.server.faults = [Fault(503)] * 10
    with pytest.raises(GitHostFailed, match="failed with status 503: try again later"):
        await ask(gitea)
    assert len(gitea.server.requests) == TRIES


async def test_a_limit_that_lasts_is_said_at_once(gitea: Side) -> None:
    gitea.add("shop")
    gitea.server.faults = [Fault(429, {"Retry-After": "3600"}), Fault(403, {"X-RateLimit-Remaining": "0"})]
    with pytest.raises(GitHostFailed, match="limits how often it is asked: try again in 3600 seconds"):
        await ask(gitea)
    with pytest.raises(GitHostFailed, match="limits how often it is asked: try again later"):
        await ask(gitea)
    assert gitea.slept == []


async def test_what_may_have_happened_is_not_done_twice(gitea: Side) -> None:
    for status, tries in ((502, 1), (503, TRIES)):
        gitea.server.requests.clear()
        gitea.server.faults = [Fault(200, {}, b'{"login": "somebody"}'), *[Fault(status)] * 5]
        with pytest.raises(GitHostFailed):
            await gitea.host.create_repository(gitea.installation, "fresh", True)
        assert gitea.server.requests == ["GET /api/v1/user", *["POST /api/v1/orgs/acme/repos"] * tries]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(401), "refused the credentials of the installation: renew them"),
        (
            Fault(403, {}, b'{"message": "token has no scope\\u0007 x"}'),
            "does not allow this .*: token has no scope  x$",
        ),
        (Fault(301, {"Location": "http://169.254.169.254/"}), "redirect: correct the address"),
        (Fault(500, {}, b"<html>"), "failed with status 500"),
        (Fault(418, {}, b"[1]"), "refused with status 418$"),
        (Fault(400, {}, b'{"message": {"name": ["has been taken"]}}'), "refused with status 400: .*has been taken"),
        (Fault(200, {}, b"<html>"), "not JSON.*is the address of the installation right"),
        (Fault(200, {}, b"[]"), "answered what we do not understand"),
        (Fault(200, {}, b'{"id": "x", "name": 5}'), "answered what we do not understand"),
        (Fault(200, {}, b"x" * (ANSWER_BYTES + 1)), f"more than {ANSWER_BYTES} bytes"),
    ],
)
async def test_every_failure_is_said_in_words_and_without_the_token(gitea: Side, fault: Fault, text: str) -> None:
    gitea.add("shop")
    gitea.server.faults = [fault]
    with pytest.raises(GitHostFailed, match=text) as failed:
        await ask(gitea)
    assert TOKEN not in str(failed.value)
    assert "169.254" not in str(failed.value)
    assert len(gitea.server.requests) == 1


async def test_404_is_no_repository(gitea: Side) -> None:
    gitea.add("shop")
    gitea.server.faults = [Fault(404), Fault(410)]
    for _ in range(2):
        with pytest.raises(NoSuchRepository):
            await ask(gitea)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}",
        "http://localhost:{port}",
        "http://[::1]:{port}",
        "http://0.0.0.0:{port}",
        "http://169.254.169.254",
        "http://10.0.0.1",
        "http://[fd00::1]",
        "http://2130706433:{port}",
    ],
)
async def test_a_host_on_this_machine_or_a_private_address_is_not_asked(gitea: Side, address: str) -> None:
    gitea.add("shop")
    caller = Caller(parse_allow_list([]))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    url = address.format(port=gitea.server.server_address[1])
    there = dataclasses.replace(gitea.installation, base_url=url)
    try:
        with pytest.raises(GitHostFailed, match=r"Not allowed: .* HEARTH_EGRESS_ALLOW"):
            await Gitea(Api(caller, sleep)).repository(there, "100")
    finally:
        await caller.close()
    assert (gitea.server.requests, slept) == ([], [])


async def test_a_host_that_is_not_there_is_tried_and_named(gitea: Side) -> None:
    gone = dataclasses.replace(gitea.installation, base_url="http://127.0.0.1:1")
    with pytest.raises(GitHostFailed, match=r"http://127\.0\.0\.1:1 could not be reached"):
        await gitea.host.repository(gone, "100")
    assert gitea.slept == [1.0, 2.0]


async def test_an_answer_that_does_not_come_ends(gitea: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    gitea.add("shop")
    monkeypatch.setattr(caller_module, "TOTAL_S", 0.05)
    with gitea.server.lock, pytest.raises(GitHostFailed, match="did not answer within"):
        await ask(gitea)


# ---------------------------------------------------------------------------------------------- installations


async def test_an_installation_is_checked_before_it_is_stored(at: Side) -> None:
    if at.kind == "github":
        # Those of the app come another way.
        with pytest.raises(ValueError, match="token is missing"):
            await at.host.complete(at.installation)
        assert at.host.authorize_url("s/t").endswith("/github-apps/hearth-test/installations/new?state=s%2Ft")
        return
    assert at.host.authorize_url("state") == ""
    slashed = dataclasses.replace(at.installation, base_url=at.installation.base_url + "/")
    assert await at.host.complete(slashed) == at.installation
    with pytest.raises(ValueError, match="organization"):
        await at.host.complete(dataclasses.replace(at.installation, organization="nobody-here"))
    with pytest.raises(GitHostFailed, match="refused the credentials"):
        await at.host.complete(at.with_credentials(token="wrong"))
    for token in ("", "a\r\nx: y", "a b", "\u00fc"):
        with pytest.raises(ValueError, match="token"):
            await at.host.complete(at.with_credentials(token=token))
    for url in (
        "ftp://host",
        "https://",
        "host",
        "https://u:p@host",
        "https://host?x",
        "https://host:port",
        "https://h h",
    ):
        with pytest.raises(ValueError, match="baseUrl"):
            await at.host.complete(dataclasses.replace(at.installation, base_url=url))


async def test_without_an_organization_it_is_the_token_s_user(at: Side) -> None:
    if at.kind == "github":
        return
    nameless = dataclasses.replace(at.installation, organization="")
    if at.kind.startswith("bitbucket"):
        with pytest.raises(ValueError, match="workspace"):
            await at.host.complete(nameless)
        return
    found = await at.host.complete(nameless)
    assert found.organization == ("ada" if at.kind == "github-token" else "hearth-bot")
    made = await at.host.create_repository(found, "mine", False)
    assert (made.organization, made.private) == (found.organization, False)
