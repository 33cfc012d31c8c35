"""Fetches in real sandboxes: through the egress gate, from a mirror, within their limits, ended when canceled."""

import asyncio
import os
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import hearth
from hearth.build.fetcher import SandboxFetcher, TemplatesHost
from hearth.build.git_sandbox import FetchSettings
from hearth.cli.client.init import STARTERS
from hearth.executor.sandbox.config import GateConfig, SpawnerConfig
from hearth.executor.sandbox.launch import start_gate, start_spawner
from hearth.executor.sandbox.ns import NsDriver
from hearth.executor.sandbox.spec import Sandbox, SandboxSpec
from hearth.model.sources import Fetched, FetchRequest, GitSource, ReferenceKind
from hearth.ports import SourceUnavailable
from hearth.runtimes.locations import SHIMS_FOLDER
from hearth.store.files.local import LocalFiles
from tests.support.git import GitServer, Repository, git_server, open_to_all
from tests.support.server import server_folder
from tests.support.uids import first_uid

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.slow]

GATE_UID = 61_104
MEBIBYTE = 1 << 20

huge = pytest.mark.skipif(
    os.environ.get("HEARTH_TEST_HUGE") != "1",
    reason="takes minutes and gigabytes: HEARTH_TEST_HUGE=1. The same with lower limits runs always",
)


class WatchedDriver:
    """The real driver; `specs` are what it was asked for, `environments` what the started processes had."""

    def __init__(self, driver: NsDriver) -> None:
        self._driver = driver
        self.specs: list[SandboxSpec] = []

    async def start(self, spec: SandboxSpec) -> Sandbox:
        self.specs.append(spec)
        return await self._driver.start(spec)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


class Site:
    """A fetcher over real sandboxes, one repository `o/r`, and a server and a mirror for it."""

    def __init__(self, folder: Path, driver: WatchedDriver, server: GitServer, repository: Repository) -> None:
        self.data = folder / "data"
        self.mirror = folder / "mirror"
        self.driver, self.server, self.repository = driver, server, repository
        self.files = LocalFiles(self.data)
        self.log = ""

    @property
    def at_server(self) -> str:
        return f"{self.server.url}/o/r"

    @property
    def at_mirror(self) -> str:
        return f"file://{self.mirror}/o/r"

    async def fetch(
        self,
        url: str,
        reference: str = "main",
        folder: str = "",
        *,
        kind: ReferenceKind = ReferenceKind.BRANCH,
        timeout_s: float = 60.0,
        limit_bytes: int = 30_000_000,
        templates: str = "",
        settings: FetchSettings | None = None,
    ) -> Fetched:
        open_to_all(self.mirror)
        host = TemplatesHost.of(templates or (f"file://{self.mirror}" if url.startswith("file") else self.server.url))
        fetcher = SandboxFetcher(self.driver, self.files, self.data, host, settings)
        self.log = ""

        def on_log(text: str) -> None:
            self.log += text

        source = GitSource(url, kind, reference, folder)
        try:
            return await fetcher.fetch(FetchRequest("d", source, "sources/p/d", timeout_s, limit_bytes), on_log)
        finally:
            work = self.data / "work"
            assert not work.exists() or list(work.iterdir()) == [], "every end leaves no work folder"

    async def names(self) -> list[str]:
        async with self.files.local("sources/p/d") as path:
            with tarfile.open(path) as tar:
                return tar.getnames()


@pytest.fixture
def folder() -> Iterator[Path]:
    with server_folder() as made:
        yield made


@pytest.fixture
async def site(folder: Path) -> AsyncIterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("real sandboxes need root")
    repository = Repository(folder / "mirror" / "o" / "r")
    (folder / "data").mkdir()
    with git_server(folder / "mirror") as server:
        spawner = start_spawner(
            SpawnerConfig(
                data_folder=str(folder / "data"),
                server_uid=0,
                server_gid=0,
                read_only_bases=(str(SHIMS_FOLDER), str(folder / "mirror")),
                uid_first=first_uid(40_000),
            )
        )
        keep = (sys.prefix, sys.base_prefix, str(Path(hearth.__file__).resolve().parents[1]))
        allow = (f"127.0.0.1:{server.port}",)
        gate = start_gate(GateConfig(uid=GATE_UID, gid=GATE_UID, keep=keep, allow=allow))
        driver = WatchedDriver(NsDriver(spawner, gate))
        try:
            yield Site(folder, driver, server, repository)
        finally:
            await driver.close()


async def refused(fetch: Any) -> str:
    with pytest.raises(SourceUnavailable) as caught:
        await fetch
    return str(caught.value)


async def test_a_folder_at_a_tag_range_comes_through_the_gate(site: Site) -> None:
    commit = site.repository.commit({"node/main.js": "x", "other/f": "y"}, "first line\n\nmore")
    site.repository.tag("0.3.1", "0.3.2", annotated=True)
    fetched = await site.fetch(site.at_server, "0.3.*", "node", kind=ReferenceKind.TAG)
    assert fetched.reference == "0.3.2"
    assert fetched.commit is not None
    assert (fetched.commit.hash, fetched.commit.author) == (commit, "Ada")
    assert fetched.commit.message == "first line\n\nmore"
    assert fetched.size_bytes == await site.files.size("sources/p/d")
    assert await site.names() == ["main.js"]
    assert "0.3.* is 0.3.2" in site.log


async def test_a_mirror_is_read_without_any_network(site: Site) -> None:
    site.repository.commit({"python/main.py": "x"})
    await site.fetch(site.at_mirror, folder="python")
    assert await site.names() == ["main.py"]
    assert site.server.requests == []


async def test_a_repository_of_another_mirror_is_refused(site: Site, tmp_path: Path) -> None:
    for url in ("file:///etc/o/r", f"file://{site.mirror}/../data/o/r", f"file://{site.mirror}"):
        assert "not this server's mirror any more" in await refused(site.fetch(url))


async def test_a_mirror_that_sandboxes_cannot_read_says_so(site: Site) -> None:
    site.repository.commit({"f": "x"})

    open_to_all(site.mirror)
    fetcher = SandboxFetcher(site.driver, site.files, site.data, TemplatesHost(f"file://{site.mirror}"))
    site.repository.folder.chmod(0o700)
    request = FetchRequest("d", GitSource(site.at_mirror, ReferenceKind.BRANCH, "main"), "sources/p/d", 60, 0)
    assert "cannot be read by sandboxes" in await refused(fetcher.fetch(request, lambda text: None))


async def test_a_host_that_the_gate_does_not_let_through_is_the_operators_to_allow(site: Site) -> None:
    with git_server(site.mirror) as other:
        message = await refused(site.fetch(f"{other.url}/o/r", templates=other.url))
        assert f"127.0.0.1:{other.port} cannot be reached" in message
        assert "HEARTH_EGRESS_ALLOW" in message
        assert other.requests == []


async def test_a_link_to_etc_is_refused_and_nothing_is_stored(site: Site) -> None:
    site.repository.commit({"f": "x"}, links={"secrets": "/etc"})
    assert 'The link "secrets" in the repository points to "/etc"' in await refused(site.fetch(site.at_server))
    assert not (site.data / "sources").exists() or list((site.data / "sources").rglob("d")) == []


async def test_a_submodule_on_this_machine_is_refused(site: Site) -> None:
    modules = '[submodule "m"]\n\tpath = m\n\turl = file:///usr/local\n'
    site.repository.commit({"f": "x", ".gitmodules": modules}, modules={"m": "b" * 40})
    assert 'The submodule "m" ("file:///usr/local") is refused' in await refused(site.fetch(site.at_mirror))


@pytest.mark.parametrize(("files", "limit"), [(2_000, 1_000), pytest.param(100_000, 0, marks=huge)])
async def test_more_files_than_are_packed_are_refused(site: Site, files: int, limit: int) -> None:
    blob = site.repository.blob(b"x")
    site.repository.commit_entries([("100644", blob, f"d{n // 1000}/f{n}") for n in range(files)], "many")
    settings = FetchSettings(entries=limit) if limit else FetchSettings()
    assert f"has more than {settings.entries:,} files" in await refused(site.fetch(site.at_server, settings=settings))


@pytest.mark.parametrize(("size_mb", "limit_mb"), [(32, 16), pytest.param(2_048, 0, marks=huge)])
async def test_a_huge_file_that_compresses_to_nothing_is_refused_by_name(
    site: Site, size_mb: int, limit_mb: int
) -> None:
    """Sent as two thousandths; a checkout would fill the disk, and reading it whole the memory."""
    process = await asyncio.create_subprocess_exec(
        *("/usr/bin/git", "-c", "core.bigFileThreshold=1m", "-c", "core.compression=1", "hash-object", "-w", "--stdin"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"GIT_DIR": str(site.repository.folder), "PATH": "/usr/bin:/bin"},
    )
    assert process.stdin is not None
    for _ in range(size_mb // 16):
        process.stdin.write(bytes(16 * MEBIBYTE))
        await process.stdin.drain()
    process.stdin.close()
    assert process.stdout is not None
    blob = (await process.stdout.read()).decode().strip()
    assert await process.wait() == 0
    site.repository.commit_entries([("100644", blob, "zeros.bin")], "large")
    settings = FetchSettings(content_bytes=limit_mb * MEBIBYTE) if limit_mb else FetchSettings()
    message = await refused(site.fetch(site.at_mirror, settings=settings))
    assert f"hold {size_mb * MEBIBYTE / 1e6:,.1f} MB, more than a source may" in message
    assert '"zeros.bin"' in message


async def test_a_repository_that_sends_too_much_is_ended(site: Site) -> None:
    """Bytes that do not compress, above what git may hold on disk."""
    site.repository.commit({"noise.bin": os.urandom(24 * MEBIBYTE)})
    message = await refused(site.fetch(site.at_mirror, settings=FetchSettings(disk_bytes=8 * MEBIBYTE)))
    assert "sends more than 8 MB" in message


async def test_a_source_above_the_servers_limit_is_refused(site: Site) -> None:
    site.repository.commit({"noise.bin": os.urandom(MEBIBYTE)})
    assert "larger than 0.5 MB when packed" in await refused(site.fetch(site.at_mirror, limit_bytes=500_000))


async def test_credentials_are_in_no_environment_argument_log_or_message(site: Site) -> None:
    site.repository.commit({"f": "x"})
    site.server.credentials = "ada:s3cret"
    with_password = site.server.url.replace("http://", "http://ada:s3cret@")
    site.server.hold.clear()
    fetch = asyncio.create_task(site.fetch(site.at_server, templates=with_password))
    await asyncio.to_thread(site.server.asked.wait, 30)
    seen = b"".join(_read(path) for name in ("environ", "cmdline") for path in Path("/proc").glob(f"[0-9]*/{name}"))
    site.server.hold.set()
    assert (await fetch).commit is not None
    assert b"git-remote-http" in seen, "git was running and could be looked at"
    assert b"s3cret" not in seen
    assert "s3cret" not in site.log
    spec = site.driver.specs[0]
    assert "s3cret" not in repr(spec)
    site.server.credentials = "ada:changed"
    message = await refused(site.fetch(site.at_server, templates=with_password))
    assert "not public" in message
    assert "s3cret" not in message + site.log


async def test_a_host_that_does_not_answer_is_given_up_in_time(site: Site) -> None:
    site.repository.commit({"f": "x"})
    site.server.hold.clear()
    message = await refused(site.fetch(site.at_server, timeout_s=2.0))
    assert "could not be fetched within 2 seconds" in message


async def test_a_canceled_fetch_leaves_no_process_and_no_file(site: Site) -> None:
    site.repository.commit({"f": "x"})
    site.server.hold.clear()
    fetch = asyncio.create_task(site.fetch(site.at_server))
    await asyncio.to_thread(site.server.asked.wait, 30)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    running = b"".join(_read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    assert f":{site.server.port}/o/r".encode() not in running
    assert list(site.data.rglob("sources/p/d")) == []


@pytest.mark.parametrize("starter", ["node", "python"])
async def test_starters_need_neither_network_nor_sandbox(site: Site, starter: str) -> None:
    fetched = await site.fetch("starters:", "1.0.0", starter, kind=ReferenceKind.TAG)
    assert (fetched.reference, fetched.commit) == ("1.0.0", None)
    assert {"node": "main.js", "python": "main.py"}[starter] in await site.names()
    assert site.driver.specs == []
    message = await refused(site.fetch("starters:", "1", "perl"))
    assert message.startswith('There is no starter "perl". Name one of these as root directory: ')
    assert message.endswith(f"{', '.join(sorted(STARTERS))}.")


def test_a_templates_host_keeps_its_password_to_itself() -> None:
    host = TemplatesHost.of("https://ada:p%40ss@git.example.com/base/")
    assert (host.url, host.username, host.password) == ("https://git.example.com/base", "ada", "p@ss")
    assert "p@ss" not in repr(host)
    assert host.is_host_of("https://git.example.com/o/r")
    assert not host.is_host_of("https://git.example.com.evil.net/o/r")
    assert not host.is_host_of("http://git.example.com/o/r")
    assert TemplatesHost.of("file:///srv/x/..//my%20mirror/").mirror == "/srv/my mirror"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
