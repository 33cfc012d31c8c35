"""What every git host does (`hearth.ports.GitHost`), each against a stand-in for its published interface."""

from typing import Any

import pytest

from hearth.model.sources import GitSource, ReferenceKind
from hearth.model.vcs import Branch, CommitState, CommitStatus, Content
from hearth.ports import GitHostFailed, NoSuchRepository
from hearth.vcs.api import FILE_BYTES
from tests.support.forges.kinds import SECRET, Side
from tests.support.forges.world import Pull

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_a_repository_is_described(at: Side) -> None:
    made = at.add("shop", private=True)
    made.commit({"a": "1"})
    found = await at.host.repository(at.installation, at.id(made))
    assert (found.id, found.name, found.organization) == (at.id(made), "shop", at.organization)
    assert (found.default_branch, found.private) == ("main", True)
    assert found.url.endswith(f"/{at.organization}/shop")
    assert found.pushed_at is not None
    assert found.pushed_at.isoformat(timespec="seconds") == "2026-01-02T01:04:05+00:00"


async def test_what_the_host_does_not_know_is_no_repository(at: Side) -> None:
    made = at.add()
    made.commit({"a": "1"})
    missing = "{00000000-0000-0000-0000-0000000000ff}" if at.kind.startswith("bitbucket") else "999999"
    # Ids come from users: what leads elsewhere in a path, or is no id there, is no repository.
    for id in (missing, "", "..", "../../user", "1?x=1", "a/b", "{x}", "1" * 40, "１"):
        with pytest.raises(NoSuchRepository):
            await at.host.repository(at.installation, id)
    with pytest.raises(NoSuchRepository):
        await at.host.latest_commit(at.installation, at.id(made), "no-such-branch")
    with pytest.raises(NoSuchRepository):
        await at.host.latest_commit(at.installation, at.id(made), "f" * 40)
    with pytest.raises(NoSuchRepository):
        await at.host.contents(at.installation, at.id(made), "no/such", "main")
    with pytest.raises(NoSuchRepository):
        await at.host.contents(at.installation, at.id(made), "../../..", "main")
    with pytest.raises(NoSuchRepository):
        await at.host.file(at.installation, at.id(made), "no-such", "main")
    with pytest.raises(NoSuchRepository):
        await at.host.pull_request(at.installation, at.id(made), "7")


async def test_repositories_come_in_pages_with_a_total_and_can_be_searched(at: Side) -> None:
    for index in range(7):
        at.add(f"repo-{index}")
    at.add("other")
    first = await at.host.repositories(at.installation, "", 0, 3)
    second = await at.host.repositories(at.installation, "", 3, 3)
    third = await at.host.repositories(at.installation, "", 6, 3)
    assert [len(page.items) for page in (first, second, third)] == [3, 3, 2]
    names = [found.name for page in (first, second, third) for found in page.items]
    assert sorted(names) == ["other", *(f"repo-{index}" for index in range(7))]
    assert third.total == 8
    # What a user's own repositories are, GitHub does not count.
    assert first.total == (4 if at.kind == "github-token" else 8)
    searched = await at.host.repositories(at.installation, "REPO", 4, 4)
    assert (searched.total, len(searched.items)) == (7, 3)
    assert (await at.host.repositories(at.installation, 'no"such\\', 0, 4)).items == ()


async def test_a_large_page_is_made_of_several(at: Side) -> None:
    for index in range(130):
        at.add(f"repo-{index:03}")
    found = await at.host.repositories(at.installation, "", 0, 120)
    assert len({repository.name for repository in found.items}) == 120


async def test_a_repository_can_be_created_and_a_refusal_says_why(at: Side) -> None:
    made = await at.host.create_repository(at.installation, "fresh", True)
    assert (made.name, made.organization, made.private) == ("fresh", at.organization, True)
    assert (await at.host.repository(at.installation, made.id)).name == "fresh"
    with pytest.raises(GitHostFailed, match=r"(?i)refused with status 4\d\d: .*(exist|taken|failed)"):
        await at.host.create_repository(at.installation, "fresh", True)


async def test_all_branches_are_listed_however_many(at: Side) -> None:
    made = at.add()
    commit = made.commit({"a": "1"})
    for index in range(120):
        made.branches[f"feature/{index:03}"] = commit
    found = await at.host.branches(at.installation, at.id(made))
    assert len(found) == 121
    assert Branch("feature/077", commit) in found


async def test_a_folder_is_listed_at_a_branch_or_commit(at: Side) -> None:
    made = at.add()
    old = made.commit({"package.json": "{}", "src/index.js": "12345", "src/lib/a b#?%.js": ""})
    made.commit({"other": "1"}, branch="feature/x")
    # GitLab does not say how large files are.
    size = 0 if at.kind == "gitlab" else 2
    root = await at.host.contents(at.installation, at.id(made), "", "")
    assert set(root) == {Content("package.json", False, size), Content("src", True)}
    for ref in ("main", old):
        below = await at.host.contents(at.installation, at.id(made), "src", ref)
        assert {(entry.name, entry.is_directory) for entry in below} == {("index.js", False), ("lib", True)}
    other = await at.host.contents(at.installation, at.id(made), "", "feature/x")
    assert [entry.name for entry in other] == ["other"]
    with pytest.raises(NoSuchRepository):
        await at.host.contents(at.installation, at.id(made), "package.json", "main")


async def test_a_file_is_read_up_to_a_size(at: Side) -> None:
    made = at.add()
    made.commit(
        {"a/b c#?%ü.txt": b"\x00\xff binary", "max": b"x" * FILE_BYTES, "large": b"x" * (FILE_BYTES + 1), "empty": b""}
    )
    id = at.id(made)
    assert await at.host.file(at.installation, id, "a/b c#?%ü.txt", "main") == b"\x00\xff binary"
    assert len(await at.host.file(at.installation, id, "max", "")) == FILE_BYTES
    with pytest.raises(GitHostFailed, match=f"more than {FILE_BYTES} bytes"):
        await at.host.file(at.installation, id, "large", "main")
    with pytest.raises(NoSuchRepository):
        await at.host.file(at.installation, id, "a", "main")


async def test_the_newest_commit_of_a_branch_or_a_commit_itself(at: Side) -> None:
    made = at.add()
    old = made.commit({"a": "1"}, "first")
    new = made.commit({"a": "2"}, "second\n\nbody", branch="feature/x")
    found = await at.host.latest_commit(at.installation, at.id(made), "feature/x")
    assert (found.hash, found.message, found.author) == (new, "second\n\nbody", "Ada")
    assert found.url.endswith(new)
    assert (await at.host.latest_commit(at.installation, at.id(made), old)).message == "first"


async def test_an_empty_repository_has_no_commit(at: Side) -> None:
    made = at.add()
    assert await at.host.branches(at.installation, at.id(made)) == ()
    with pytest.raises(NoSuchRepository):
        await at.host.latest_commit(at.installation, at.id(made), "main")


async def test_changed_files_or_none_when_the_host_cannot_say(at: Side) -> None:
    made = at.add()
    first = made.commit({"same": "", "edited": "1", "gone": "1"})
    made.commit({"same": "", "edited": "2", "gone": "1"})
    last = made.commit({"same": "", "edited": "2", "src/new": "1"})
    id = at.id(made)
    assert await at.host.changed_files(at.installation, id, first, last) == ("edited", "gone", "src/new")
    assert await at.host.changed_files(at.installation, id, last, last) == ()
    assert await at.host.changed_files(at.installation, id, "f" * 40, last) is None
    # After a forced push, what was taken back has changed as well: known in full, or not at all.
    made.branches["main"] = first
    forced = made.commit({"same": "", "edited": "1", "gone": "1", "other": ""})
    found = await at.host.changed_files(at.installation, id, last, forced)
    assert found in (None, ("edited", "gone", "other", "src/new"))
    assert (found is None) == (at.host.provider in ("github", "gitea", "forgejo"))


async def test_all_changed_files_are_named_however_many(at: Side) -> None:
    made = at.add()
    first = made.commit({"a": "1"})
    last = made.commit({"a": "1", **{f"src/{index:03}": "" for index in range(250)}})
    found = await at.host.changed_files(at.installation, at.id(made), first, last)
    assert found == tuple(f"src/{index:03}" for index in range(250))
    too_many = made.commit({f"src/{index:04}": "" for index in range(1_100)})
    found = await at.host.changed_files(at.installation, at.id(made), last, too_many)
    # A list that is cut would leave functions unbuilt.
    assert found is None or len(found) == 1_351


async def test_a_pull_request_and_whether_it_comes_from_a_fork(at: Side) -> None:
    made, fork = at.add(), at.server.world.add("mallory", "shop")
    inside = made.commit({"a": "1"}, branch="feature/x")
    outside = fork.commit({"evil": "1"}, branch="patch")
    made.pulls[1] = Pull(1, "Ours", "feature/x", inside, made)
    made.pulls[2] = Pull(2, "Theirs", "patch", outside, fork)
    ours = await at.host.pull_request(at.installation, at.id(made), "1")
    assert (ours.id, ours.repository_id, ours.branch, ours.commit) == ("1", at.id(made), "feature/x", inside)
    assert (ours.base_branch, ours.is_external, ours.title, ours.source) == ("main", False, "Ours", None)
    theirs = await at.host.pull_request(at.installation, at.id(made), "2")
    assert (theirs.commit, theirs.is_external) == (outside, True)
    if at.kind.startswith("bitbucket"):
        url = f"{at.server.url}/mallory/shop.git"
        assert theirs.source == GitSource(url, ReferenceKind.COMMIT, outside)
    else:
        assert theirs.source is None


async def test_a_deleted_fork_is_external(at: Side) -> None:
    made = at.add()
    made.pulls[3] = Pull(3, "Gone", "patch", "a" * 40, None)
    if at.kind.startswith("bitbucket"):
        with pytest.raises(NoSuchRepository, match="gone"):
            await at.host.pull_request(at.installation, at.id(made), "3")
    else:
        assert (await at.host.pull_request(at.installation, at.id(made), "3")).is_external


async def test_a_clone_goes_to_the_installation_s_own_address(at: Side) -> None:
    made = at.add()
    source = await at.host.clone_source(at.installation, at.id(made))
    # Whatever the host says: credentials go nowhere else.
    assert source.url == f"{at.server.url}/{at.organization}/shop.git"
    assert source.access.username
    assert source.access.password in (at.installation.credentials.get("token"), "ghs_0")
    assert source.access.password not in repr(source)
    assert at.installation.credentials.get("token", "no token") not in repr(at.installation)


@pytest.mark.parametrize("state", CommitState)
async def test_a_status_is_shown_at_its_commit(at: Side, state: CommitState) -> None:
    made = at.add()
    commit = made.commit({"a": "1"})

    async def show() -> None:
        await at.host.set_status(
            at.installation,
            at.id(made),
            commit,
            CommitStatus(
                state,
                target_url="https://hearth.example/x",
                description="Deployment is on its way",
                context="Hearth (shop of a project with a long name)",
            ),
        )

    await show()
    await show()
    ((shown, body), *_) = made.statuses
    assert shown == commit
    assert body.get("target_url", body.get("url")) == "https://hearth.example/x"
    assert body["description"] == "Deployment is on its way"
    assert body.get("context", body.get("name")) == "Hearth (shop of a project with a long name)"
    expected: dict[str, Any] = {"gitlab": "failed", "bitbucket": "FAILED", "bitbucket-user": "FAILED"}
    if state is CommitState.FAILURE:
        assert body["state"] == expected.get(at.kind, "failure")


async def test_our_comment_is_written_once_and_then_replaced(at: Side) -> None:
    made = at.add()
    made.pulls[1] = Pull(1, "Ours", "x", "a" * 40, made)
    marker = "<!-- hearth:abc -->"
    for index in range(105):
        made.add_comment(1, "ada", f"something else {index}")
    await at.host.comment(at.installation, at.id(made), "1", marker, f"{marker}\nbuilding")
    await at.host.comment(at.installation, at.id(made), "1", marker, f"{marker}\nready")
    ours = [one.text for one in made.comments[1] if one.author == at.server.world.login]
    assert len(ours) == 1
    assert "ready" in ours[0]


async def test_somebody_else_s_comment_with_our_marker_is_left(at: Side) -> None:
    made = at.add()
    made.pulls[1] = Pull(1, "Ours", "x", "a" * 40, made)
    marker = "<!-- hearth:abc -->"
    theirs = made.add_comment(1, "mallory", f"{marker} [//]: # (hearth:abc)")
    await at.host.comment(at.installation, at.id(made), "1", marker, f"{marker}\nready")
    assert theirs.text == f"{marker} [//]: # (hearth:abc)"
    assert len(made.comments[1]) == 2


async def test_a_webhook_is_registered_once_per_address_and_taken_back(at: Side) -> None:
    made = at.add()
    for index in range(60):
        made.hooks[1_000 + index] = {"config": {"url": f"https://x/{index}"}, "url": f"https://x/{index}", "events": []}
    others = len(made.hooks)
    url = "https://hearth.example/v1/vcs/events"
    first = await at.host.register_webhook(at.installation, at.id(made), url, "old")
    again = await at.host.register_webhook(at.installation, at.id(made), url, SECRET)
    assert first == again
    if at.kind == "github":
        # The app has its own.
        assert (first, len(made.hooks)) == ("", others)
    else:
        assert len(made.hooks) == others + 1
        (ours,) = [hook for hook in made.hooks.values() if url in (hook.get("url"), hook.get("config", {}).get("url"))]
        assert SECRET in (ours.get("secret"), ours.get("token"), ours.get("config", {}).get("secret"))
    for _ in range(2):
        await at.host.unregister_webhook(at.installation, at.id(made), first)
    assert len(made.hooks) == others


@pytest.mark.parametrize("at", ["forgejo"], indirect=True)
async def test_forgejo_is_asked_for_a_webhook_of_its_own_kind(at: Side) -> None:
    made = at.add()
    id = await at.host.register_webhook(at.installation, at.id(made), "https://hearth.example/x", SECRET)
    assert made.hooks[int(id)]["type"] == "forgejo"
    await at.host.unregister_webhook(at.installation, at.id(made), id)
    assert made.hooks == {}


@pytest.mark.parametrize("at", ["bitbucket-user"], indirect=True)
async def test_a_user_s_token_at_bitbucket_goes_with_his_address(at: Side) -> None:
    made = at.add()
    made.commit({"a": "1"})
    assert await at.host.file(at.installation, at.id(made), "a", "") == b"1"
    source = await at.host.clone_source(at.installation, at.id(made))
    assert source.access.username == "x-bitbucket-api-token-auth"
    assert (await at.host.complete(at.installation)).organization == "acme"
