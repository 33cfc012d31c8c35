"""What git hosts send: the signature before all else, one meaning for all hosts, and no way to fall over a body."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.model.vcs import Ignored, InstallationEvent, PullRequestEvent, PushEvent
from hearth.ports import BadSignature, GitHost
from hearth.vcs.bitbucket import Bitbucket
from hearth.vcs.gitea import Gitea
from hearth.vcs.github import GitHub
from hearth.vcs.gitlab import GitLab
from hearth.vcs.signatures import digest
from tests.support.forges.bitbucket import BitbucketStandIn
from tests.support.forges.gitea import GiteaStandIn
from tests.support.forges.github import INSTALLATION, GitHubStandIn
from tests.support.forges.gitlab import GitLabStandIn
from tests.support.forges.kinds import SECRET, Side
from tests.support.forges.world import Pull, Repository

pytestmark = pytest.mark.anyio

OLD, NEW = "a" * 40, "b" * 40
SIGNATURES = ("x-hub-signature-256", "x-hub-signature", "x-gitea-signature", "x-forgejo-signature", "x-gitlab-token")


def parsed(at: Side, delivery: tuple[Mapping[str, str], bytes]) -> Any:
    headers, body = delivery
    return at.host.parse_webhook(headers, body, at.hook_secret())


def installation_id(at: Side) -> str:
    return str(INSTALLATION) if at.host.provider == "github" else ""


@pytest.mark.parametrize("branch", ["main", "feature/ü #1"])
@pytest.mark.parametrize(("before", "after"), [(OLD, NEW), ("", NEW), (OLD, "")])
async def test_a_push_says_branch_and_commits(sender: Side, branch: str, before: str, after: str) -> None:
    made = sender.add()
    got = parsed(sender, sender.server.push(made, f"refs/heads/{branch}", before, after, sender.hook_secret()))
    if isinstance(got, PushEvent) and not after and sender.host.provider in ("gitea", "forgejo"):
        # Their event of a deletion does not say where the branch was.
        got = dataclasses.replace(got, before=before)
    assert got == PushEvent(sender.id(made), branch, before, after, installation_id(sender))


@pytest.mark.parametrize(("before", "after"), [("", NEW), (OLD, "")])
async def test_tags_are_ignored(sender: Side, before: str, after: str) -> None:
    got = parsed(sender, sender.server.push(sender.add(), "refs/tags/v1", before, after, sender.hook_secret()))
    assert isinstance(got, Ignored)


@pytest.mark.parametrize("what", ["opened", "changed", "closed", "labeled"])
async def test_a_pull_request_was_opened_changed_or_closed(sender: Side, what: str) -> None:
    made, fork = sender.add(), sender.server.world.add("mallory", "shop")
    for head, is_external in ((made, False), (fork, True), (None, True)):
        pull = Pull(7, "Title", "feature/x", NEW, head)
        got = parsed(sender, sender.server.pull_changed(made, pull, what, sender.hook_secret()))
        if what == "labeled":
            assert isinstance(got, Ignored)
            continue
        assert isinstance(got, PullRequestEvent)
        request = got.pull_request
        assert (got.is_closed, got.provider_installation_id) == (what == "closed", installation_id(sender))
        assert (request.id, request.repository_id, request.branch) == ("7", sender.id(made), "feature/x")
        assert (request.base_branch, request.is_external, request.title) == ("main", is_external, "Title")
        assert NEW.startswith(request.commit)
        assert len(request.commit) == (12 if sender.kind.startswith("bitbucket") else 40)


async def test_an_event_nobody_asked_for_is_ignored(sender: Side) -> None:
    headers, body = sender.server.webhook("something_new", {"anything": [1, {"x": None}]}, sender.hook_secret())
    assert isinstance(sender.host.parse_webhook(headers, body, sender.hook_secret()), Ignored)


async def test_a_wrong_missing_or_foreign_signature_is_refused_before_the_body_is_read(sender: Side) -> None:
    secret = sender.hook_secret()
    headers, body = sender.server.push(sender.add(), "refs/heads/main", OLD, NEW, secret)
    (name,) = [name for name in SIGNATURES if name in headers]
    wrong = [
        (headers, body, "another secret"),
        (headers, body, ""),
        ({key: value for key, value in headers.items() if key != name}, body, secret),
        ({**headers, name: ""}, body, secret),
        (
            {**headers, name: headers[name][:-1] + ("0" if headers[name][-1] != "0" else "1")},
            body,
            secret,
        ),
        ({**headers, name: "sha256=\u00fc"}, body, secret),
        # A body of nobody is not even looked at.
        ({**headers, name: "sha256=" + "0" * 64}, b"{" * 100_000, secret),
    ]
    if name != "x-gitlab-token":
        wrong.append((headers, body + b" ", secret))
    for these, text, other in wrong:
        with pytest.raises(BadSignature):
            sender.host.parse_webhook(these, text, other)
    # An empty secret signs nothing, also where both sides have none.
    unsigned, text = sender.server.push(sender.add(), "refs/heads/main", OLD, NEW, "")
    with pytest.raises(BadSignature):
        sender.host.parse_webhook(unsigned, text, "")


@pytest.mark.parametrize("sender", ["bitbucket"], indirect=True)
async def test_bitbucket_tells_of_several_branches_at_once(sender: Side) -> None:
    made = sender.add()
    changes = [("refs/tags/v1", "", NEW), ("refs/heads/main", OLD, NEW), ("refs/heads/x", "", NEW)]
    got = parsed(sender, sender.server.pushes(made, changes, sender.hook_secret()))
    assert got == PushEvent(made.uuid, "main", OLD, NEW, "", others=(PushEvent(made.uuid, "x", "", NEW),))


@pytest.mark.parametrize("at", ["gitlab"], indirect=True)
async def test_gitlab_s_signature_counts_where_there_is_one(at: Side) -> None:
    made = at.add()
    await at.host.register_webhook(at.installation, at.id(made), "https://hearth.example/x", SECRET)
    headers, body = at.server.push(made, "refs/heads/main", OLD, NEW, SECRET)
    assert "webhook-signature" in headers
    assert isinstance(at.host.parse_webhook(headers, body, SECRET), PushEvent)
    tokenless = {name: value for name, value in headers.items() if name != "x-gitlab-token"}
    assert isinstance(at.host.parse_webhook(tokenless, body, SECRET), PushEvent)
    rotating = {**headers, "webhook-signature": f"v1,b2xk {headers['webhook-signature']}"}
    assert isinstance(at.host.parse_webhook(rotating, body, SECRET), PushEvent)
    # The token alone, which travels in clear, does not make up for a signature that is wrong.
    for changed in (
        {"webhook-id": "other"},
        {"webhook-timestamp": "1790000001"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v2," + headers["webhook-signature"][3:]},
    ):
        with pytest.raises(BadSignature):
            at.host.parse_webhook({**headers, **changed}, body, SECRET)
    with pytest.raises(BadSignature):
        at.host.parse_webhook(headers, body + b" ", SECRET)


@pytest.mark.parametrize("sender", ["github"], indirect=True)
@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("deleted", InstallationEvent("42", True)),
        ("suspend", InstallationEvent("42", False)),
        ("unsuspend", InstallationEvent("42", False)),
        ("created", None),
    ],
)
async def test_github_says_what_becomes_of_an_installation(sender: Side, action: str, expected: Any) -> None:
    got = parsed(sender, sender.server.webhook("installation", {"action": action}, sender.hook_secret()))
    assert got == expected or (expected is None and isinstance(got, Ignored))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000, b"x" * 10_000_000])
async def test_an_authentic_body_that_makes_no_sense_is_a_value_error(sender: Side, body: bytes) -> None:
    headers, _ = sender.server.push(sender.add(), "refs/heads/main", OLD, NEW, sender.hook_secret())
    (name,) = [name for name in SIGNATURES if name in headers]
    signed = headers[name] if name == "x-gitlab-token" else "sha256=" + digest(body, sender.hook_secret())
    with pytest.raises(ValueError, match=r"JSON|missing|not a number"):
        sender.host.parse_webhook({**headers, name: signed}, body, sender.hook_secret())


# ---------------------------------------------------------------------------------------------- any content

EVENTS = ["push", "delete", "pull_request", "installation", "Push Hook", "Merge Request Hook", "repo:push"]
EVENTS += ["pullrequest:created", "pullrequest:rejected", "ping", "", "x" * 300]
NAMES = ["repository", "project", "id", "uuid", "ref", "before", "after", "push", "changes", "old", "new", "type"]
NAMES += ["name", "target", "hash", "pull_request", "pullrequest", "object_attributes", "head", "base", "sha", "repo"]
NAMES += ["number", "iid", "source", "destination", "branch", "commit", "full_name", "action", "installation"]
TEXTS = ["refs/heads/main", "refs/tags/x", "main", "a" * 40, "0" * 40, "opened", "open", "update", "branch", "..", ""]
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(TEXTS), st.text(max_size=8))
CONTENT = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)),
    max_leaves=25,
)
HOSTS: list[GitHost] = [GitHub(None, None), Gitea(None), GitLab(None), Bitbucket(None)]  # type: ignore[arg-type]


def signed_for_all(event: str, body: bytes) -> dict[str, str]:
    mac = digest(body, SECRET)
    return {
        "x-github-event": event,
        "x-gitea-event": event,
        "x-gitlab-event": event,
        "x-event-key": event,
        "x-hub-signature-256": f"sha256={mac}",
        "x-hub-signature": f"sha256={mac}",
        "x-gitea-signature": mac,
        "x-gitlab-token": SECRET,
    }


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(event=st.sampled_from(EVENTS), content=CONTENT)
def test_no_content_whatever_makes_a_host_fail(event: str, content: Any) -> None:
    body = json.dumps(content).encode()
    for host in HOSTS:
        try:
            host.parse_webhook(signed_for_all(event, body), body, SECRET)
        except ValueError:
            continue


def _mutated(content: Any, path: list[int], value: Any) -> Any:
    """`content` with one value in it replaced; `path` chooses, level by level."""
    if not path or not isinstance(content, dict | list) or not content:
        return value
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = keys[path[0] % len(keys)]
    changed = dict(content) if isinstance(content, dict) else list(content)
    changed[key] = _mutated(content[key], path[1:], value)
    return changed


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(path=st.lists(st.integers(0, 20), min_size=1, max_size=6), value=CONTENT, which=st.integers(0, 100))
def test_a_delivery_with_one_thing_wrong_is_understood_or_refused(path: list[int], value: Any, which: int) -> None:
    host, headers, body = DELIVERIES[which % len(DELIVERIES)]
    changed = json.dumps(_mutated(json.loads(body), path, value)).encode()
    event = next(
        headers[name]
        for name in ("x-gitea-event", "x-gitlab-event", "x-event-key", "x-github-event")
        if name in headers
    )
    try:
        host.parse_webhook(signed_for_all(event, changed), changed, SECRET)
    except ValueError:
        return


def _deliveries() -> list[tuple[GitHost, Mapping[str, str], bytes]]:
    """One of each kind from each host, made without serving anything."""
    found: list[tuple[GitHost, Mapping[str, str], bytes]] = []
    repository = Repository(1, "acme", "shop", branches={"main": NEW})
    for host, kind in zip(HOSTS, (GitHubStandIn, GiteaStandIn, GitLabStandIn, BitbucketStandIn), strict=True):
        server: Any = type("Sender", (kind,), {"__init__": lambda self: None, "url": "http://host"})()
        server.__dict__.update(brand="gitea", signs=False)
        pull = Pull(1, "t", "x", NEW, repository)
        found += [(host, *server.push(repository, "refs/heads/main", OLD, after, SECRET)) for after in (NEW, "")]
        found += [(host, *server.pull_changed(repository, pull, what, SECRET)) for what in ("opened", "closed")]
    return found


DELIVERIES = _deliveries()
assert all(
    isinstance(host.parse_webhook(headers, body, SECRET), PushEvent | PullRequestEvent)
    for host, headers, body in DELIVERIES
)
