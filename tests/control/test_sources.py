"""Deployments from git: made, fetched before their build, fetched again, canceled (contract: functions-api 9.2)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hearth.control.deployments import DeploymentsControl
from hearth.control.git_deployments import GitDeployments
from hearth.control.jobs import JobKind
from hearth.control.starting import DeploymentStarter
from hearth.control.uploads import upload_key
from hearth.model.refusals import PlatformFault, Refusal
from hearth.model.resources import Deployment
from hearth.model.sources import (
    STARTERS_URL,
    Commit,
    Fetched,
    GitSource,
    ReferenceKind,
    name_problem,
    normal_folder,
    reference_problem,
    shortened,
)
from hearth.model.statuses import DeploymentStatus
from hearth.ports import FileNotStored, SourceUnavailable
from tests.control.support import World

pytestmark = pytest.mark.anyio

TEMPLATE: dict[str, Any] = {
    "repository": "templates",
    "owner": "appwrite",
    "root_directory": "./node/starter/",
    "kind": "tag",
    "reference": "0.3.*",
    "activate": True,
}
HASH = "c" * 40


def git(world: World, url: str = "https://git.test") -> GitDeployments:
    starter = DeploymentStarter(clock=world.clock, limits=world.limits)
    return GitDeployments(
        store=world.store, clock=world.clock, events=world.bus, starter=starter, hosts={}, templates_url=url
    )


def deployments(world: World) -> DeploymentsControl:
    return DeploymentsControl(
        store=world.store,
        files=world.files,
        clock=world.clock,
        events=world.bus,
        executor=world.executor,  # type: ignore[arg-type]
        runnables=world.runnables,
        starter=DeploymentStarter(clock=world.clock, limits=world.limits),
        uploads=world.uploads,
        builds=world.builds,
    )


async def created(world: World, **changes: Any) -> Deployment:
    return await git(world).create_template("p", "f", **{**TEMPLATE, **changes})


async def until(world: World, id: str, fits: Callable[[Deployment], bool]) -> Deployment:
    """The deployment once it fits; TimeoutError after five seconds."""
    async with asyncio.timeout(20):
        while True:
            deployment = await world.deployment(id)
            if fits(deployment):
                return deployment
            await asyncio.sleep(0.01)


async def test_a_template_deployment_waits_with_its_source_noted_and_its_build_queued(here: World) -> None:
    made = await created(here)
    kept = await here.deployment(made.id)
    assert kept.git_source == GitSource(
        "https://git.test/appwrite/templates", ReferenceKind.TAG, "0.3.*", "node/starter"
    )
    assert (kept.status, kept.type, kept.activate, kept.source_key) == (DeploymentStatus.WAITING, "vcs", True, "")
    assert (kept.provider_repository_owner, kept.provider_repository_name) == ("appwrite", "templates")
    assert kept.provider_repository_url == "https://git.test/appwrite/templates"
    assert kept.provider_branch_url == "https://git.test/appwrite/templates/blob/0.3.%2A"
    jobs = await here.store.jobs.unfinished()
    assert [(job.kind, job.resource_id) for job in jobs] == [(JobKind.BUILD, made.id)]
    assert here.events == [f"functions.f.deployments.{made.id}.create"]


async def test_the_source_is_fetched_before_the_build_and_what_is_known_of_it_is_noted(here: World) -> None:
    made = await created(here)
    await here.builds.run("p", "f", made.id)
    (fetch,) = here.fetcher.requests
    assert (fetch.source, fetch.key) == (made.git_source, upload_key("p", made.id))
    assert (fetch.timeout_s, fetch.limit_bytes) == (300.0, 30_000_000)
    (build,) = here.builder.requests
    assert build.source_key == fetch.key
    assert build.environment["APPWRITE_VCS_COMMIT_HASH"] == HASH
    assert build.environment["APPWRITE_VCS_REPOSITORY_BRANCH"] == "1.0.2"
    done = await here.deployment(made.id)
    assert (done.status, done.source_size_bytes) == (DeploymentStatus.READY, 6)
    assert done.build_logs == "fetching\nfirst line\nlast line\n"
    assert (done.provider_branch, done.provider_commit_author) == ("1.0.2", "Ada")
    assert (done.provider_commit_hash, done.provider_commit_message) == (HASH, "a message")
    assert done.provider_branch_url == "https://git.test/appwrite/templates/blob/1.0.2"
    assert done.provider_commit_url == f"https://git.test/appwrite/templates/commit/{HASH}"
    assert await here.active() == made.id


async def test_a_deployment_is_processing_while_its_source_is_fetched_and_its_log_grows(here: World) -> None:
    here.fetcher.go.clear()
    here.builder.go.clear()
    made = await created(here)
    running = asyncio.create_task(here.builds.run("p", "f", made.id))
    await here.fetcher.started.wait()
    seen = await until(here, made.id, lambda deployment: deployment.build_logs != "")
    assert (seen.status, seen.build_logs) == (DeploymentStatus.PROCESSING, "fetching\n")
    here.fetcher.go.set()
    await here.builder.started.wait()
    await until(here, made.id, lambda deployment: deployment.status is DeploymentStatus.BUILDING)
    here.builder.go.set()
    await running


async def test_a_source_that_cannot_be_had_fails_the_deployment_with_the_reason(here: World) -> None:
    here.fetcher.outcome = SourceUnavailable("There is no tag 9.*.")
    made = await created(here)
    await here.builds.run("p", "f", made.id)
    failed = await here.deployment(made.id)
    assert (failed.status, failed.source_key) == (DeploymentStatus.FAILED, "")
    assert failed.build_logs == "fetching\n\n\x1b[91mThere is no tag 9.*.\x1b[0m\n"
    assert here.builder.requests == []


async def test_a_fault_of_ours_while_fetching_is_the_jobs_to_try_again(here: World) -> None:
    here.fetcher.outcome = PlatformFault("the sandbox was lost")
    made = await created(here)
    with pytest.raises(PlatformFault):
        await here.builds.run("p", "f", made.id)
    assert (await here.deployment(made.id)).status is DeploymentStatus.PROCESSING
    here.fetcher.outcome = Fetched(6, "1.0.2", Commit(HASH, "Ada", "m"))
    await here.builds.run("p", "f", made.id)
    assert (await here.deployment(made.id)).status is DeploymentStatus.READY


async def test_a_build_that_is_tried_again_does_not_fetch_again(here: World) -> None:
    here.builder.outcome = PlatformFault("the sandbox was lost")
    made = await created(here)
    with pytest.raises(PlatformFault):
        await here.builds.run("p", "f", made.id)
    here.builder.outcome = PlatformFault("again")
    with pytest.raises(PlatformFault):
        await here.builds.run("p", "f", made.id)
    assert len(here.fetcher.requests) == 1


async def test_a_cancel_ends_the_fetch_and_nothing_is_built(here: World) -> None:
    here.fetcher.go.clear()
    made = await created(here)
    running = asyncio.create_task(here.builds.run("p", "f", made.id))
    await here.fetcher.started.wait()
    await deployments(here).cancel("p", "f", made.id)
    await running
    assert (here.fetcher.ended_early, here.builder.requests) == (1, [])
    canceled = await here.deployment(made.id)
    assert canceled.status is DeploymentStatus.CANCELED
    assert "Build has been canceled." in canceled.build_logs


async def test_a_deployment_that_is_deleted_while_it_is_fetched_leaves_no_source(here: World) -> None:
    made = await created(here)
    here.fetcher.go.clear()
    running = asyncio.create_task(here.builds.run("p", "f", made.id))
    await here.fetcher.started.wait()
    async with here.store.begin("p") as unit:
        await unit.deployments.delete(made.id)
    here.fetcher.go.set()  # the fetch comes to its end before anybody stops it
    await running
    with pytest.raises(FileNotStored):
        await here.files.size(upload_key("p", made.id))


async def test_a_duplicate_builds_the_stored_source_and_keeps_what_is_known_of_it(here: World) -> None:
    made = await created(here)
    await here.builds.run("p", "f", made.id)
    again = await deployments(here).duplicate("p", "f", made.id)
    await here.builds.run("p", "f", again.id)
    done = await here.deployment(again.id)
    assert (done.status, done.type, done.provider_branch) == (DeploymentStatus.READY, "vcs", "1.0.2")
    assert len(here.fetcher.requests) == 1, "copied, not fetched"


@pytest.mark.parametrize("lost", [False, True])
async def test_a_duplicate_without_a_stored_source_fetches_the_same_commit(here: World, lost: bool) -> None:
    """Whatever the branch is by now; `lost` = it was fetched once, and its file has gone."""
    made = await created(here, kind="branch", reference="main")
    if lost:
        await here.builds.run("p", "f", made.id)
        await here.files.delete(upload_key("p", made.id))
    else:
        here.fetcher.outcome = SourceUnavailable("host down")
        await here.builds.run("p", "f", made.id)
        here.fetcher.outcome = Fetched(6, "main", Commit(HASH, "Ada", "m"))
    again = await deployments(here).duplicate("p", "f", made.id)
    assert (again.source_key, again.source_size_bytes) == ("", 0)
    await here.builds.run("p", "f", again.id)
    source = here.fetcher.requests[-1].source
    expected = (ReferenceKind.COMMIT, HASH) if lost else (ReferenceKind.BRANCH, "main")
    assert (source.kind, source.reference, source.root_directory) == (*expected, "node/starter")
    done = await here.deployment(again.id)
    assert done.status is DeploymentStatus.READY
    assert done.provider_branch == ("1.0.2" if lost else "main"), "the branch stays known"


async def test_a_git_deployment_without_a_job_is_queued_again_not_taken_for_an_upload(here: World) -> None:
    made = await created(here)
    await here.store.jobs.claim("w", [JobKind.BUILD], 1, 60)
    (job,) = await here.store.jobs.unfinished()
    await here.store.jobs.finish(job.id, "w")
    here.clock.move(2 * here.limits.upload_idle_s)
    await here.repairs.deployments()
    assert (await here.deployment(made.id)).status is DeploymentStatus.WAITING
    assert [job.resource_id for job in await here.store.jobs.unfinished()] == [made.id]


async def test_starters_are_deployed_whatever_the_templates_host_is(here: World) -> None:
    made = await git(here, "file:///srv/mirror").create_template(
        "p", "f", **{**TEMPLATE, "owner": "hearth", "repository": "starters", "root_directory": "node"}
    )
    assert made.git_source == GitSource(STARTERS_URL, ReferenceKind.TAG, "0.3.*", "node")
    assert (made.provider_repository_url, made.provider_branch_url) == ("", "")


async def test_a_mirrors_folder_is_not_shown_but_the_page_of_what_it_mirrors(here: World) -> None:
    made = await git(here, "file:///srv/mirror").create_template("p", "f", **TEMPLATE)
    assert made.git_source is not None
    assert made.git_source.url == "file:///srv/mirror/appwrite/templates"
    assert made.provider_repository_url == "https://github.com/appwrite/templates"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"owner": ""}, "owner"),
        ({"owner": ".."}, "owner"),
        ({"owner": "-c"}, "owner"),
        ({"owner": "a/b"}, "owner"),
        ({"repository": "a b"}, "repository"),
        ({"repository": "--upload-pack=x"}, "repository"),
        ({"root_directory": "../.."}, "rootDirectory"),
        ({"root_directory": "a/.git"}, "rootDirectory"),
        ({"root_directory": "a\ud800"}, "rootDirectory"),
        ({"reference": "a\ud800"}, "reference"),
        ({"reference": "a\u202eb"}, "reference"),
        ({"reference": "--upload-pack=x"}, "reference"),
        ({"reference": ""}, "reference"),
        ({"reference": "a..b"}, "reference"),
        ({"kind": "branch", "reference": "feature/*"}, "reference"),
        ({"kind": "commit", "reference": "abc1234"}, "reference"),
        ({"kind": "commit", "reference": "HEAD"}, "reference"),
    ],
)
async def test_what_no_git_host_has_is_refused_before_anything_is_made(
    here: World, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(Refusal, match=f"Invalid `{param}` param") as caught:
        await created(here, **changes)
    assert caught.value.type == "general_argument_invalid"
    assert await here.store.jobs.unfinished() == ()


async def test_a_function_that_is_not_there_and_one_without_a_host_are_told_apart(here: World) -> None:
    with pytest.raises(Refusal) as missing:
        await git(here).create_template("p", "none", **TEMPLATE)
    assert missing.value.type == "function_not_found"
    vcs: dict[str, Any] = {"kind": "branch", "reference": "main", "activate": False}
    with pytest.raises(Refusal) as unconnected:
        await git(here).create_vcs("p", "f", **vcs)
    assert unconnected.value.type == "installation_not_found"
    async with here.store.begin("p") as unit:
        await unit.functions.update("f", installation_id="i")
    with pytest.raises(Refusal) as without_repository:
        await git(here).create_vcs("p", "f", **vcs)
    assert without_repository.value.type == "installation_not_found"  # its installation is gone
    with pytest.raises(Refusal) as connected:
        await created(here)
    assert connected.value.type == "installation_not_found"


def test_commit_messages_are_cut_to_the_width_of_their_column() -> None:
    assert shortened("  short\n") == "short"
    assert shortened("x" * 255) == "x" * 255
    cut = shortened("x" * 256)
    assert (len(cut), cut[-4:]) == (255, "x...")


def test_ordinary_names_references_and_folders_are_accepted() -> None:
    assert [name_problem(name) for name in ("appwrite", "my.repo_1-x", ".github")] == ["", "", ""]
    assert reference_problem(ReferenceKind.BRANCH, "feature/x-1") == ""
    assert reference_problem(ReferenceKind.TAG, "v1.*") == ""
    assert reference_problem(ReferenceKind.COMMIT, "0123456789abcdef" * 2 + "01234567") == ""
    assert [normal_folder(path) for path in ("", ".", "/", "./a//b/", "a/../b")] == ["", "", "", "a/b", None]
