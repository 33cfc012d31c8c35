"""What the builder makes of how its sandboxes end. The sandboxes here are made up; real ones are in test_real.py."""

import asyncio
import hashlib
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hearth.build.builder import BuildSettings, SandboxBuilder
from hearth.executor.sandbox.spec import Facility, Network, Profile, SandboxExit, SandboxFailed, SandboxSpec
from hearth.model.refusals import PlatformFault
from hearth.model.running import BuildRequest, BuildResult
from hearth.ports import FileNotStored
from hearth.runtimes.catalogue import InstalledPacks
from hearth.runtimes.packs import Level, Pack
from hearth.runtimes.registries import Registries

pytestmark = pytest.mark.anyio

PACK = Pack("node-22", "node", "22.9.0", Level.EXACT, "host", "/usr/bin/node", ("/usr/bin/node",), ("/usr/bin",))
Act = Callable[["FakeSandbox"], None]
FINE = SandboxExit(0, None)


class FakeSandbox:
    """A sandbox that does what `act` says when it starts, and ends when `act` ends it or it is killed."""

    def __init__(self, spec: SandboxSpec, act: Act) -> None:
        self.spec = spec
        self.id = spec.id
        self.output, self.log = os.pipe()
        os.set_blocking(self.output, False)
        self.channel: socket.socket | None = None
        if spec.channel:
            self.channel, self.inside = socket.socketpair()
            self.channel.setblocking(False)
        self.ended: asyncio.Future[SandboxExit] = asyncio.get_running_loop().create_future()
        self.killed = False
        self.request: Any = None
        self._act = act
        self._received = b""
        if spec.channel:
            asyncio.get_running_loop().add_reader(self.inside, self._receive)
        else:
            act(self)

    def _receive(self) -> None:
        """Take the request, as the build program does before anything else; then act."""
        self._received += self.inside.recv(65_536)
        if len(self._received) == 4 + int.from_bytes(self._received[:4], "big"):
            asyncio.get_running_loop().remove_reader(self.inside)
            self.request = json.loads(self._received[4:])
            self._act(self)

    def end(self, exit: SandboxExit = FINE, *, answer: Any = None, output: bytes = b"") -> None:
        """Print, answer and exit."""
        if output:
            os.write(self.log, output)
        os.close(self.log)
        if self.spec.channel:
            asyncio.get_running_loop().remove_reader(self.inside)
            if answer is not None:
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.inside.sendall(len(data).to_bytes(4, "big") + data)
            self.inside.close()
        self.ended.set_result(exit)

    async def wait(self) -> SandboxExit:
        return await asyncio.shield(self.ended)

    async def kill(self) -> SandboxExit:
        if not self.ended.done():
            self.killed = True
            self.end(SandboxExit(None, 9))
        return self.ended.result()

    async def freeze(self, frozen: bool) -> None:
        raise AssertionError("a build is never frozen")


class FakeDriver:
    """Starts made-up sandboxes: `extract` and `build` say what the two of a build do."""

    def __init__(self) -> None:
        self.extract: Act = lambda sandbox: sandbox.end()
        self.build: Act = lambda sandbox: sandbox.end(answer={"ok": True, "warnings": []})
        self.started: list[FakeSandbox] = []
        self.removed: list[str] = []
        self.refusal: SandboxFailed | None = None

    async def start(self, spec: SandboxSpec) -> FakeSandbox:
        if self.refusal is not None:
            raise self.refusal
        sandbox = FakeSandbox(spec, self.extract if spec.profile is Profile.EXTRACT else self.build)
        self.started.append(sandbox)
        return sandbox

    async def make_disk(self, path: str, size_bytes: int) -> bool:
        return False

    async def remove_tree(self, path: str) -> None:
        self.removed.append(path)
        shutil.rmtree(path)

    async def facilities(self) -> Sequence[Facility]:
        return ()

    async def close(self) -> None: ...


class FolderFiles:
    """The two things a builder does with files, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.adopted: dict[str, bytes] = {}

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        return self._local(key)

    @asynccontextmanager
    async def _local(self, key: str) -> AsyncIterator[Path]:
        if not (self.folder / key).exists():
            raise FileNotStored(key)
        yield self.folder / key

    def scratch(self) -> AbstractAsyncContextManager[Path]:
        return self._scratch()

    @asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Path]:
        path = self.folder / "scratch"
        path.touch()
        yield path
        path.unlink()

    async def adopt(self, key: str, path: Path) -> None:
        self.adopted[key] = path.read_bytes()


class Case:
    """A builder over made-up sandboxes."""

    def __init__(self, folder: Path, settings: BuildSettings) -> None:
        self.driver = FakeDriver()
        self.files = FolderFiles(folder)
        (folder / "source").write_bytes(b"archive")
        self.data = folder / "data"
        self.data.mkdir()
        self.registries = Registries(pip=(("index-url", "https://x.example"),), hosts=("x.example:443",))
        self.builder = SandboxBuilder(
            self.driver,
            InstalledPacks([PACK]),
            self.files,  # type: ignore[arg-type]
            self.data,
            self.registries,
            settings,
        )
        self.log = ""

    def request(self, **changes: Any) -> BuildRequest:
        fields: dict[str, Any] = {
            "deployment_id": "Dep_1.x",
            "project_id": "p",
            "function_id": "f",
            "runtime": "node-22",
            "source_key": "source",
            "entrypoint": "main.js",
            "commands": "npm install",
            "environment": {"SECRET": "s3cret"},
            "cpus": 0.5,
            "memory_mb": 1024,
            "timeout_s": 30.0,
            "output_limit_bytes": 1_000_000,
            **changes,
        }
        return BuildRequest(**fields)

    async def run(self, **changes: Any) -> BuildResult:
        def on_log(text: str) -> None:
            self.log += text

        return await self.builder.build(self.request(**changes), on_log)

    def packs(self, data: bytes) -> None:
        """Let the build write this artifact and succeed."""

        def act(sandbox: FakeSandbox) -> None:
            os.write(sandbox.spec.descriptors[4], data)
            sandbox.end(answer={"ok": True, "warnings": ["w"]}, output=b"from the commands\n")

        self.driver.build = act

    def fails(self, exit: SandboxExit = FINE, **answer: Any) -> None:
        self.driver.build = lambda sandbox: sandbox.end(exit, answer={"ok": False, **answer})


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, BuildSettings())


async def test_an_artifact_is_stored_under_the_digest_of_its_bytes(case: Case) -> None:
    case.packs(b"tar")
    result = await case.run()
    assert result.artifact is not None
    assert result.artifact.digest == hashlib.sha256(b"tar").hexdigest()
    assert case.files.adopted == {result.artifact.key: b"tar"}
    assert result.artifact.key == f"artifacts/{result.artifact.digest}"
    assert result.artifact.size_bytes == 3
    assert result.warnings == ("w",)
    assert "Environment preparation started." in case.log
    assert case.log.endswith("from the commands\n")


async def test_the_extract_sandbox_has_no_network_and_the_build_sandbox_only_the_gate(case: Case) -> None:
    case.packs(b"tar")
    await case.run()
    extract, build = (sandbox.spec for sandbox in case.driver.started)
    assert (extract.profile, extract.network, extract.channel) == (Profile.EXTRACT, Network.NONE, False)
    assert (build.profile, build.network) == (Profile.BUILD, Network.GATE)
    assert [mount.target for mount in extract.mounts if mount.writable] == ["/usr/local/build"]
    assert [mount.target for mount in build.mounts if mount.writable] == ["/usr/local/build", "/usr/local/home"]
    assert build.limits.memory_bytes == 1024 << 20


async def test_no_variable_of_the_user_is_on_a_command_line_or_in_a_sandboxs_first_environment(case: Case) -> None:
    case.packs(b"tar")
    await case.run()
    for sandbox in case.driver.started:
        assert "s3cret" not in repr((sandbox.spec.argv, sandbox.spec.environment))


async def test_the_names_of_sandboxes_keep_to_the_drivers_rule_and_differ(case: Case) -> None:
    case.packs(b"tar")
    await case.run()
    await case.run(deployment_id="x" * 36)
    ids = [sandbox.id for sandbox in case.driver.started]
    assert len(set(ids)) == 4
    assert all(len(id) <= 60 and set(id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for id in ids)


@pytest.mark.parametrize(
    ("exit", "answer", "said"),
    [
        (
            SandboxExit(1, None),
            {"message": "Build failed with exit code 3. See.", "exit_code": 3},
            "Build failed with exit code 3. See.",
        ),
        (
            SandboxExit(1, None, out_of_memory=True),
            {"message": "x", "exit_code": 137},
            "Build failed with exit code 137. Build ran out of memory: it may use 1024 MB. Choose a larger build spec",
        ),
        (SandboxExit(None, 9, out_of_memory=True), {}, "Build ran out of memory: it may use 1024 MB."),
        (SandboxExit(None, 11), {}, "Build ended unexpectedly with signal 11."),
        (SandboxExit(1, None, pids_exhausted=True), {"message": "m."}, "m. It reached its limit of 1024 processes"),
    ],
)
async def test_a_failed_build_says_how_it_failed_and_what_to_do(
    case: Case, exit: SandboxExit, answer: dict[str, Any], said: str
) -> None:
    case.fails(exit, **answer)
    result = await case.run()
    assert result.artifact is None
    assert result.message.startswith(said)


async def test_a_success_with_an_earlier_memory_kill_is_a_success(case: Case) -> None:
    def act(sandbox: FakeSandbox) -> None:
        os.write(sandbox.spec.descriptors[4], b"x")
        sandbox.end(SandboxExit(0, None, out_of_memory=True), answer={"ok": True})

    case.driver.build = act
    assert (await case.run()).artifact is not None


@pytest.mark.parametrize("answer", [b"not json", b"[1]", b'{"ok": "true"}', b""])
async def test_an_answer_that_makes_no_sense_is_no_success(case: Case, answer: bytes) -> None:
    case.driver.build = lambda sandbox: sandbox.end(answer=answer)
    assert (await case.run()).artifact is None


async def test_a_defect_of_the_build_program_is_our_fault(case: Case) -> None:
    case.fails(SandboxExit(70, None), reason="broken", message="Traceback: KeyError")
    with pytest.raises(PlatformFault, match="KeyError"):
        await case.run()


@pytest.mark.parametrize("stage", ["extract", "build"])
async def test_a_lost_sandbox_is_our_fault(case: Case, stage: str) -> None:
    setattr(case.driver, stage, lambda sandbox: sandbox.end(SandboxExit(-1, None)))
    with pytest.raises(PlatformFault, match="lost"):
        await case.run()


async def test_a_sandbox_that_cannot_be_started_is_our_fault(case: Case) -> None:
    case.driver.refusal = SandboxFailed("clone: no space")
    with pytest.raises(PlatformFault, match="clone: no space"):
        await case.run()
    assert list((case.data / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Build produced no output artifact."),
        (b"x" * 1_000_001, "Build size should be less than 1.00 MBs."),
    ],
)
async def test_an_artifact_is_measured_by_us_whatever_the_sandbox_says(case: Case, data: bytes, said: str) -> None:
    case.packs(data)
    if not data:
        case.driver.build = lambda sandbox: sandbox.end(answer={"ok": True})
    result = await case.run()
    assert result.artifact is None
    assert result.message.startswith(said)
    assert case.files.adopted == {}


async def test_a_refused_archive_is_a_failed_build_with_the_extract_programs_last_line(case: Case) -> None:
    case.driver.extract = lambda sandbox: sandbox.end(SandboxExit(3, None), output=b"noise\n../x: Not allowed.\n")
    result = await case.run()
    assert result.message == "The source archive was refused: ../x: Not allowed."
    assert len(case.driver.started) == 1


async def test_an_extract_program_that_breaks_is_our_fault(case: Case) -> None:
    case.driver.extract = lambda sandbox: sandbox.end(SandboxExit(1, None), output=b"OSError: disk\n")
    with pytest.raises(PlatformFault, match="exit code 1: OSError: disk"):
        await case.run()


async def test_an_archive_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    case = Case(tmp_path, BuildSettings(extract_timeout_s=0.02))
    case.driver.extract = lambda sandbox: None
    result = await case.run()
    assert "could not be unpacked within 0.02 seconds" in result.message
    assert case.driver.started[0].killed


async def test_a_build_over_its_time_is_killed_and_names_the_limit(case: Case) -> None:
    case.driver.build = lambda sandbox: None
    result = await case.run(timeout_s=0.05)
    assert result.message.startswith("Build timed out after 0.05 seconds")
    assert "HEARTH_BUILD_TIMEOUT" in result.message
    assert case.driver.started[1].killed


async def test_a_runtime_without_a_pack_is_named(case: Case) -> None:
    result = await case.run(runtime="ruby-3.4")
    assert result.message.startswith("The runtime ruby-3.4 is not installed on this server")
    assert case.driver.started == []


async def test_a_source_that_is_gone_is_said_to_be(case: Case) -> None:
    assert "not stored any more" in (await case.run(source_key="missing")).message


@pytest.mark.parametrize("stage", ["extract", "build"])
async def test_a_cancelled_build_ends_its_sandbox_and_removes_its_folder_first(case: Case, stage: str) -> None:
    started = asyncio.Event()
    setattr(case.driver, stage, lambda sandbox: started.set())
    task = asyncio.create_task(case.run())
    await started.wait()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert case.driver.started[-1].killed
    assert list((case.data / "work").iterdir()) == []


async def test_every_end_removes_the_work_folder(case: Case) -> None:
    case.packs(b"tar")
    await case.run()
    case.fails(SandboxExit(1, None), message="m")
    await case.run()
    assert len(case.driver.removed) == 2
    assert list((case.data / "work").iterdir()) == []


async def test_a_sweep_removes_what_a_killed_server_left_and_nothing_of_a_running_build(case: Case) -> None:
    left = case.data / "work" / "build-old-1"
    left.mkdir(parents=True)
    running = asyncio.Event()
    case.driver.build = lambda sandbox: running.set()
    task = asyncio.create_task(case.run())
    await running.wait()
    await case.builder.sweep()
    assert not left.exists()
    assert len(list((case.data / "work").iterdir())) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_registries_files_are_readable_for_sandboxes_whatever_the_servers_umask(case: Case) -> None:
    modes: dict[str, int] = {}

    def act(sandbox: FakeSandbox) -> None:
        for mount in sandbox.spec.mounts:
            if mount.target == "/usr/local/server/registries":
                folder = Path(mount.source)
                modes.update({path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())})
        sandbox.end(answer={"ok": False, "message": "m"})

    case.driver.build = act
    before = os.umask(0o077)
    try:
        await case.run()
    finally:
        os.umask(before)
    assert modes == {"registries": 0o755, "pip.conf": 0o644, "npmrc": 0o644}


async def test_a_sweep_without_a_work_folder_is_fine(case: Case) -> None:
    await case.builder.sweep()


async def test_a_nearly_full_disk_of_the_server_ends_the_build(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearth.build.builder.FREE_DISK_BYTES", 1 << 62)
    case.driver.extract = lambda sandbox: None
    assert "disk of this server is nearly full" in (await case.run()).message


async def test_the_build_program_gets_the_request_and_the_registries_over_the_channel(case: Case) -> None:
    case.fails(message="m")
    await case.run()
    got = case.driver.started[1].request
    assert got["environment"] == {"SECRET": "s3cret"}
    assert got["commands"] == "npm install"
    assert got["registries"]["PIP_CONFIG_FILE"] == "/usr/local/server/registries/pip.conf"
    assert got["disk_bytes"] == 4096 << 20
