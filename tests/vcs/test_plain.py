"""Plain git servers: which addresses and credentials are taken, and which hooks are believed."""

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any, cast

import pytest

from hearth.model.sources import CloneSource
from hearth.model.vcs import Branch, Ignored, Installation, Provider, PushEvent
from hearth.ports import BadSignature, GitReader
from hearth.vcs.plain import SIGNATURE_HEADER, PlainGit, known_hosts, repository_id
from tests.store.samples import NOW

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"
HASH, OTHER = "a" * 40, "b" * 40


class NotingReader:
    """Answers every repository, and notes which were asked for."""

    def __init__(self) -> None:
        self.asked: list[CloneSource] = []

    async def branches(self, source: CloneSource) -> tuple[tuple[Branch, ...], str]:
        self.asked.append(source)
        return (Branch("main", HASH),), "main"

    async def host_keys(self, url: str) -> str:
        return "ssh-ed25519 AAAA"


def installation(base_url: str, **credentials: str) -> Installation:
    return Installation("i", "p", NOW, NOW, Provider.GIT, "team", base_url, credentials=credentials)


def signed(body: Any, secret: str = "s3cret") -> tuple[dict[str, str], bytes]:
    content = json.dumps(body).encode()
    return {SIGNATURE_HEADER: "sha256=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()}, content


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "credentials", "base", "repositories"),
    [
        ("https://git.test/team/", {"token": "t"}, "https://git.test/team", ()),
        ("https://git.test/team/site.git", {}, "https://git.test/team", ("site.git",)),
        ("git@git.test:team/site.git", {"privateKey": KEY}, "ssh://git@git.test/team", ("site.git",)),
        ("ssh://git.test:2222/srv", {"privateKey": KEY}, "ssh://git@git.test:2222/srv", ()),
        ("file:///srv/git", {}, "file:///srv/git", ()),
    ],
)
async def test_addresses_are_brought_into_one_form(
    url: str, credentials: dict[str, str], base: str, repositories: tuple[str, ...]
) -> None:
    reader = NotingReader()
    done = await PlainGit(cast(GitReader, reader)).complete(installation(url, **credentials))
    assert (done.base_url, done.repositories) == (base, repositories)
    assert [source.url for source in reader.asked] == [f"{base}/{name}" for name in repositories]
    assert done.credentials.get("knownHosts", "") == ("ssh-ed25519 AAAA" if base.startswith("ssh") else "")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("", {}),
        ("https://user:pw@git.test/x", {}),
        ("https://git.test/../x", {}),
        ("https://git.test/x?y", {}),
        ("ext::sh -c id", {}),
        ("ssh://-oProxyCommand=id/x", {"privateKey": KEY}),
        ("ssh://-x@git.test/x", {"privateKey": KEY}),
        ("ssh://git.test/x", {}),
        ("ssh://git.test/x", {"privateKey": KEY, "token": "t"}),
        ("https://git.test/x", {"privateKey": KEY}),
        ("http://git.test/x", {"token": "t"}),
        ("ftp://git.test/x", {}),
        ("file://host/x", {}),
    ],
)
async def test_other_addresses_and_mixed_credentials_are_refused(url: str, credentials: dict[str, str]) -> None:
    reader = NotingReader()
    with pytest.raises(ValueError, match=r"baseUrl|ssh address|https address"):
        await PlainGit(cast(GitReader, reader)).complete(installation(url, **credentials))
    assert reader.asked == []


def test_repositories_are_named_by_one_segment_and_never_look_like_options() -> None:
    assert repository_id("team/site.git") == repository_id("team:site.git") == "team:site.git"
    for name in ("", "-x", "../x", "a//b", "a b", "a%2f", "x" * 129):
        with pytest.raises(ValueError, match="repository"):
            repository_id(name)


def test_host_keys_are_taken_in_any_form_but_authorities() -> None:
    text = "# a comment\n[git.test]:22 ssh-ed25519 AAAA\n|1|abc=|def= ssh-rsa BBBB c\necdsa-sha2-nistp256 CCCC\n"
    assert known_hosts(text) == "ssh-ed25519 AAAA\nssh-rsa BBBB\necdsa-sha2-nistp256 CCCC"
    for wrong in ("@cert-authority * ssh-rsa AAAA", "nothing", "ssh-rsa $(id)"):
        with pytest.raises(ValueError, match="knownHosts"):
            known_hosts(wrong)


def test_a_signed_hook_is_a_push_and_everything_else_is_not() -> None:
    host = PlainGit(cast(GitReader, NotingReader()))
    body = {"repository": "a.git", "ref": "refs/heads/x/y", "before": "0" * 40, "after": HASH, "delivery": "1"}
    headers, content = signed(body)
    assert host.parse_webhook(headers, content, "s3cret") == PushEvent("a.git", "x/y", "", HASH)
    for wrong in ({}, {SIGNATURE_HEADER: ""}, {SIGNATURE_HEADER: "sha256=" + "0" * 64}):
        with pytest.raises(BadSignature):
            host.parse_webhook(wrong, content, "s3cret")
    with pytest.raises(BadSignature):
        host.parse_webhook(signed(body, "")[0], content, "")
    assert isinstance(host.parse_webhook(*signed(body | {"ref": "refs/tags/1"}), "s3cret"), Ignored)
    for bad in ([], {"repository": 1}, body | {"after": "--upload-pack=x"}, body | {"repository": "../x"}):
        with pytest.raises(ValueError):
            host.parse_webhook(*signed(bad), "s3cret")


def test_credentials_go_where_the_installation_is_and_are_in_no_text() -> None:
    host = PlainGit(cast(GitReader, NotingReader()))
    made = installation("https://git.test/team", token="t0ken")
    source = host._source(made, "a:b.git")
    assert (source.url, source.access.username, source.access.password) == (
        "https://git.test/team/a/b.git",
        "git",
        "t0ken",
    )
    assert "t0ken" not in repr(source) + repr(made) + repr(replace(made, organization="x"))
