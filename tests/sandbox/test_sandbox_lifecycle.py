"""What the driver promises over a sandbox's life, and cases S7 and S9: nothing is left, whoever dies."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hearth.executor.sandbox.cgroups import hierarchies
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.engine import Engine
from hearth.executor.sandbox.facilities import probe_facilities
from hearth.executor.sandbox.launch import LaunchFailed, start_spawner
from hearth.executor.sandbox.ns import NsDriver
from hearth.executor.sandbox.spec import Mount, Network, SandboxFailed
from tests.sandbox import harness, modes
from tests.sandbox.conftest import gate_config, spawner_config
from tests.sandbox.harness import LIMITS, output_of, run, spec, until
from tests.support import docker, gvisor

pytestmark = pytest.mark.anyio

SHELL = "/bin/sh"


async def test_the_inside_sees_exactly_what_the_spec_says(driver: NsDriver, owner: modes.Owner) -> None:
    environment = {"HOME": "/tmp", "ANSWER": "42 ü"}
    ran = await run(driver, "say", environment=environment, working_folder="/mnt")
    found = ran.answer
    assert found["environment"] | environment == found["environment"]
    is_container = owner.driver == "docker"
    more = {"LC_CTYPE", *(docker.ENVIRONMENT if is_container else ())}
    assert set(found["environment"]) - set(environment) <= more, "set by the interpreter itself, and by an image"
    assert (found["cwd"], found["home"]) == ("/mnt", "/tmp")
    assert found["pid"] == 1 or is_container
    memory = (await run(driver, "read_all", {"paths": ["/proc/meminfo"]})).answer["/proc/meminfo"]
    assert f"{LIMITS.memory_bytes // 1024} kB" in memory.splitlines()[0], "runtimes size their heaps by it"
    who = (await run(driver, "user")).answer
    assert (who["name"], who["host"]) == ("sandbox", "sandbox")


async def test_channel_and_descriptors_pass_both_ways(driver: NsDriver) -> None:
    reader, writer = os.pipe()
    code = "import os; os.write(9, os.read(3, 100).upper()); os.write(3, b'pong')"
    box = await driver.start(
        spec("", argv=(harness.PYTHON, "-I", "-S", "-c", code), channel=True, descriptors={9: writer})
    )
    os.close(writer)
    assert box.channel is not None
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(box.channel, b"ping")
    assert await loop.sock_recv(box.channel, 100) == b"pong"
    assert (await box.wait()).code == 0
    assert os.read(reader, 100) == b"PING"
    os.close(reader)
    await output_of(box)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"argv": ("/nowhere",)}, '(exec:? "?|failed to load )/nowhere'),
        ({"working_folder": "/nowhere"}, "working folder|mkdir /nowhere|/nowhere"),
        ({"mounts": (Mount("/etc", "/mnt/etc"),)}, "below no folder"),
        ({"mounts": (Mount(str(Path(__file__).parent / "nothing"), "/mnt/x"),)}, "No such file"),
        ({"mounts": (Mount(str(Path(__file__).parent), "/etc"),)}, "mount target"),
        ({"id": "Bad_Id"}, "id"),
        ({"descriptors": {3: 0}}, "descriptor"),
        ({"limits": replace(LIMITS, memory_bytes=1)}, "memory_bytes"),
    ],
)
async def test_a_start_that_cannot_be_names_the_reason_and_leaves_nothing(
    driver: NsDriver, changes: dict[str, object], reason: str
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SandboxFailed, match=reason):
        await driver.start(spec("say", **changes))
    assert len(os.listdir("/proc/self/fd")) == before
    assert repr(driver) == "<ns driver, alive, 0 sandboxes>"
    assert group_folders() == []


async def test_links_of_the_data_folder_lead_nowhere(driver: NsDriver, data_folder: Path) -> None:
    """The API process owns the data folder: a link it puts there must not show or change the host."""
    (data_folder / "link").symlink_to("/etc")
    for mount in (
        Mount(str(data_folder / "link"), "/mnt/x"),
        Mount(str(data_folder / "link" / "ssl"), "/mnt/x"),
        Mount(str(data_folder / "link"), "/mnt/x", writable=True),
        Mount(str(data_folder / "link" / "new"), "/mnt/x", writable=True),
    ):
        with pytest.raises(SandboxFailed):
            await driver.start(spec("say", mounts=(mount,)))
    with pytest.raises(SandboxFailed):
        await driver.remove_tree(str(data_folder / "link" / "ssl"))
    assert not Path("/etc/new").exists()
    assert Path("/etc/ssl").exists()
    (data_folder / "link").unlink()


async def test_a_writable_folder_is_made_given_to_the_sandbox_and_to_the_next_one(
    driver: NsDriver, data_folder: Path, owner: modes.Owner
) -> None:
    folder = data_folder / "work" / "build"
    mount = (Mount(str(folder), "/mnt/out", writable=True),)
    script = (
        SHELL,
        "-c",
        "umask 077; mkdir -p /mnt/out/a/b && echo one > /mnt/out/a/b/f && ln -s /etc/passwd /mnt/out/l",
    )
    first = await run(driver, "", argv=script, mounts=mount)
    assert first.exit.code == 0, first.text
    passwd = os.stat("/etc/passwd")
    first_uid = (folder / "a" / "b" / "f").stat().st_uid
    assert first_uid >= owner.first_uid
    second = await run(driver, "", argv=(SHELL, "-c", "cat /mnt/out/a/b/f; echo two >> /mnt/out/a/b/f"), mounts=mount)
    assert (second.exit.code, second.text) == (0, "one\n")
    assert (folder / "a" / "b" / "f").stat().st_uid not in (first_uid, 0)
    assert os.stat("/etc/passwd") == passwd
    await driver.remove_tree(str(folder))
    assert not folder.exists()
    await driver.remove_tree(str(folder))


async def test_files_of_root_in_the_data_folder_are_not_given_away(
    driver: NsDriver, data_folder: Path, owner: modes.Owner
) -> None:
    folder = data_folder / "mixed"
    folder.mkdir()
    os.chown(folder, owner.uid, owner.gid)
    (folder / "of-root").write_text("x")
    with pytest.raises(SandboxFailed, match=r"uid 0|Invalid argument|not permitted|uid 65534"):
        await driver.start(spec("say", mounts=(Mount(str(folder), "/mnt/x", writable=True),)))
    assert (folder / "of-root").stat().st_uid == 0


async def test_a_tree_deeper_than_any_path_is_deleted(driver: NsDriver, data_folder: Path) -> None:
    folder = data_folder / "deep"
    code = "import os\nos.chdir('/mnt/out')\nfor _ in range(1500):\n os.mkdir('d' * 50)\n os.chdir('d' * 50)"
    mount = (Mount(str(folder), "/mnt/out", writable=True),)
    made = await run(driver, "", argv=(harness.PYTHON, "-I", "-S", "-c", code), mounts=mount)
    assert made.exit.code == 0, made.text
    await driver.remove_tree(str(folder))
    assert not folder.exists()


async def test_many_folders_are_deleted_at_once_and_each_is_answered(
    driver: NsDriver, data_folder: Path, owner: modes.Owner
) -> None:
    folders = [data_folder / "many" / str(number) for number in range(20)]
    for folder in folders:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "file").write_text("x")
        (folder / "link").symlink_to("/usr")
    for path in (data_folder / "many", *(data_folder / "many").rglob("*")):
        os.lchown(path, owner.uid, owner.gid)
    await asyncio.gather(*(driver.remove_tree(str(folder)) for folder in folders))
    assert list((data_folder / "many").iterdir()) == []
    assert Path("/usr/bin").exists()


async def test_remove_tree_stays_below_the_data_folder(driver: NsDriver, data_folder: Path) -> None:
    for path in ("/etc", str(data_folder), f"{data_folder}/../x", "relative"):
        with pytest.raises(SandboxFailed):
            await driver.remove_tree(path)
    assert data_folder.exists()


async def test_a_cancelled_start_ends_what_was_started(driver: NsDriver) -> None:
    """Cancelled at any moment of a start, nothing runs and no descriptor is held."""
    before = len(os.listdir("/proc/self/fd"))
    for delay_ms in (0, 1, 3, 6, 9, 12, 16):
        task = asyncio.ensure_future(driver.start(spec("linger", {"stay": True}, channel=True, network=Network.GATE)))
        await asyncio.sleep(delay_ms / 1000)
        task.cancel()
        try:
            box = await task
        except asyncio.CancelledError:
            continue
        await box.kill()
        await output_of(box)
    await until(lambda: repr(driver) == "<ns driver, alive, 0 sandboxes>", 2, repr(driver))
    assert len(os.listdir("/proc/self/fd")) == before
    assert group_folders() == []


async def test_what_a_sandbox_uses_is_told_while_it_runs_and_no_more_after_its_end(driver: NsDriver) -> None:
    """By the groups of every driver: the second process that computes is counted with the first."""
    before = len(os.listdir("/proc/self/fd"))
    box = await driver.start(spec("burn", {"seconds": 60, "processes": 2}))
    meter = box.meter
    assert meter is not None
    began_s = meter.cpu_s()
    assert began_s is not None
    await until(lambda: (meter.cpu_s() or 0.0) > began_s + 0.2, 20, "its CPU time to be counted")
    peak = meter.peak_memory_bytes()
    assert peak is not None
    assert 1 << 20 < peak <= LIMITS.memory_bytes
    seen_s = meter.cpu_s()
    how = await box.kill()
    assert how.cpu_s >= (seen_s or 0.0)
    assert (meter.cpu_s(), meter.peak_memory_bytes()) == (None, None)
    await output_of(box)
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_two_sandboxes_may_not_share_an_id(driver: NsDriver) -> None:
    box = await driver.start(spec("linger", {"stay": True}, id="twin"))
    with pytest.raises(SandboxFailed, match="in use"):
        await driver.start(spec("say", id="twin"))
    await box.kill()
    await output_of(box)


async def test_the_spawner_tells_the_facilities_of_the_machine(
    driver: NsDriver, data_folder: Path, owner: modes.Owner
) -> None:
    found = {facility.name: facility for facility in await driver.facilities()}
    config = owner.adapted(spawner_config(data_folder)) if owner.driver == "docker" else spawner_config(data_folder)
    config = replace(config, driver=owner.driver, oci_runtime=owner.oci_runtime or config.oci_runtime)
    names = {facility.name for facility in probe_facilities(config)}
    assert names - {"root"} == set(found) - {"root", "userns"}
    assert all(facility.ok for facility in found.values() if facility.mandatory), found
    assert found["userns" if owner.name else "root"].flag == "", "what all rests on cannot be weakened"
    assert {facility.flag for facility in found.values()} == {"", "seccomp", "cgroups", "egress"}


async def test_S9_two_hundred_starts_and_kills_leave_nothing(
    driver: NsDriver, data_folder: Path, owner: modes.Owner
) -> None:
    async def cycle(number: int) -> None:
        box = await driver.start(spec("", argv=("/usr/bin/sleep", "60"), network=Network.GATE, channel=True))
        assert (await box.kill()).signal == 9
        await output_of(box)

    await asyncio.gather(*(cycle(number) for number in range(4)))
    spawner = driver_pid(driver)
    gate_fds = Path(f"/proc/{driver._gate.process.pid}/fd") if driver._gate is not None else Path("/nowhere")
    gate_before = len(os.listdir(gate_fds))
    await until(
        lambda: not containers(owner, data_folder) and not errands(spawner), 30, "containers or errands are left"
    )
    before = counts(spawner)
    for start in range(0, 200 if owner.driver != "docker" else 20, 4):
        await asyncio.gather(*(cycle(start + number) for number in range(4)))
    await until(lambda: len(os.listdir(gate_fds)) <= gate_before, 2, "the gate let go of every socket")
    await until(
        lambda: not containers(owner, data_folder) and not errands(spawner), 30, "containers or errands are left"
    )
    after = counts(spawner)
    assert {**after, "spawner kB": 0} == {**before, "spawner kB": 0}
    assert after["spawner kB"] <= before["spawner kB"] * 1.02 + 256
    assert group_folders() == []
    # those of a whole server of the same owner, which may run besides, are in groups of another name
    found = [pid for uid in range(owner.first_uid, owner.first_uid + 8) for pid in harness.processes_of(uid)]
    group = spawner_config(data_folder).group_name()
    assert [pid for pid in found if group in groups_of(pid)] == []


def groups_of(pid: int) -> str:
    """The control groups of a process, `""` when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def containers(owner: modes.Owner, data_folder: Path) -> list[str]:
    """Those of Docker that sandboxes of this module's spawner are made in; whole servers have theirs besides."""
    if not owner.docker_socket:
        return []
    return Engine(owner.docker_socket).names(f"hearth.server={spawner_config(data_folder).group_name()}")


def errands(spawner: int) -> list[str]:
    """The spawner's child processes where it clears containers away; where it has none, nothing to wait for."""
    children = Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split()
    return children if harness.IMAGE else []


def driver_pid(driver: NsDriver) -> int:
    return driver._spawner.process.pid


def counts(spawner: int) -> dict[str, int]:
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{spawner}/status").read_text().splitlines() if ":" in line)
    return {
        "spawner fds": len(os.listdir(f"/proc/{spawner}/fd")),
        "own fds": len(os.listdir("/proc/self/fd")),
        "spawner children": len(Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split()),
        "mounts": len(Path(f"/proc/{spawner}/mountinfo").read_text().splitlines()),
        "spawner kB": int(rows["VmRSS"].split()[0]),
    }


def group_folders() -> list[str]:
    """Groups of single sandboxes that exist below the parents of servers with this module's uids."""
    found = []
    for one in hierarchies(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()):
        for parent in (*Path(one.own).glob("hearth-*"), *Path(one.own).glob("hearth-test-*/hearth-*")):
            found += [str(path) for path in parent.glob("t[0-9]*") if path.is_dir()]
    return found


# ---------------------------------------------------------------------------------------------- S7


SERVER = """
import asyncio, json, sys
from hearth.executor.sandbox.config import GateConfig, SpawnerConfig
from hearth.executor.sandbox.launch import start_gate, start_spawner
from hearth.executor.sandbox.ns import NsDriver
from hearth.executor.sandbox.privileges import drop_privileges
from tests.sandbox.harness import read_some, spec
from hearth.executor.sandbox.spec import Network

spawner_fields, gate_fields = (json.loads(text) for text in sys.argv[1:3])
tuples = lambda fields: {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
spawner = start_spawner(SpawnerConfig(**tuples(spawner_fields)))
gate = start_gate(GateConfig(**tuples(gate_fields)))
keep = (*gate_fields["keep"], *spawner_fields["read_only_bases"])
drop_privileges(spawner_fields["server_uid"], spawner_fields["server_gid"], keep)

async def main():
    lost = asyncio.Event()
    driver = NsDriver(spawner, gate, lambda why: (print(json.dumps({"lost": why}), flush=True), lost.set()))
    boxes = [await driver.start(spec("linger", {"stay": True}, network=Network.GATE)) for _ in range(3)]
    for box in boxes:
        await read_some(box.output)
    pids = [spawner.process.pid, gate.process.pid]
    print(json.dumps({"uids": [box.uid for box in boxes], "helpers": pids}), flush=True)
    await lost.wait()
    ends = [await box.wait() for box in boxes]
    print(json.dumps({"ends": [end.code for end in ends], "alive": driver.alive}), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def server_data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hearth-sandbox-"))
    os.chown(folder, harness.SERVER_UID, harness.SERVER_UID)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(
    params=[
        "ns",
        pytest.param("oci", marks=pytest.mark.skipif(shutil.which("runc") is None, reason="facility runc")),
        pytest.param("oci runsc", marks=pytest.mark.skipif(bool(gvisor.why_not()), reason="facility runsc")),
    ]
)
def server(
    request: pytest.FixtureRequest, server_data: Path
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, list[int]]]]:
    """A process that gave up root and runs three sandboxes with daemons in them, on a data folder of its own."""
    driver, _, named = request.param.partition(" ")
    config = replace(spawner_config(server_data), uid_first=harness.FIRST_UID + 1_000, driver=driver)
    if named:
        config = replace(config, oci_runtime=gvisor.program())
    root = Path(__file__).parents[2]
    gate = replace(gate_config(), nameservers=(), allow=(), registry_hosts=(), keep=(*gate_config().keep, str(root)))
    arguments = [json.dumps(asdict(config)), json.dumps(asdict(gate))]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, *arguments], stdout=subprocess.PIPE, cwd=root, env={"PATH": os.defpath}
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield process, json.loads(line)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.communicate(timeout=10)


def left_of(told: dict[str, list[int]]) -> list[object]:
    """What is left of a server: processes of its sandboxes, helpers, groups."""
    found: list[object] = [pid for uid in told["uids"] for pid in harness.processes_of(uid)]
    found += [pid for pid in told["helpers"] if Path(f"/proc/{pid}").exists()]
    return found + group_folders()


async def test_S7_when_the_server_is_killed_nothing_of_it_is_left(
    server: tuple[subprocess.Popen[bytes], dict[str, list[int]]],
) -> None:
    process, told = server
    assert all(harness.processes_of(uid) for uid in told["uids"]), "the sandboxes run"
    assert len(group_folders()) >= 3
    process.send_signal(signal.SIGKILL)
    process.wait(5)
    await until(lambda: not left_of(told), 5, f"left: {left_of(told)}")


async def test_S7_when_the_spawner_is_killed_the_server_knows_and_nothing_runs_on(
    server: tuple[subprocess.Popen[bytes], dict[str, list[int]]], server_data: Path, request: pytest.FixtureRequest
) -> None:
    process, told = server
    assert process.stdout is not None
    os.kill(told["helpers"][0], signal.SIGKILL)
    assert json.loads(process.stdout.readline()) == {"lost": "the spawner ended"}
    assert json.loads(process.stdout.readline()) == {"ends": [-1, -1, -1], "alive": False}
    assert process.wait(10) == 0
    await until(lambda: not [pid for uid in told["uids"] for pid in harness.processes_of(uid)], 2, "a process is left")
    # its groups are swept by the next start on the same data folder
    assert group_folders() or "oci" in request.node.name, "the guard of `oci` has done that already"
    start_spawner(spawner_config(server_data)).stop()
    assert group_folders() == []
    await until(lambda: not left_of(told), 5, f"left: {left_of(told)}")


async def test_S7_when_the_gate_is_killed_the_server_knows_and_nothing_runs_on(
    server: tuple[subprocess.Popen[bytes], dict[str, list[int]]],
) -> None:
    process, told = server
    assert process.stdout is not None
    os.kill(told["helpers"][1], signal.SIGKILL)
    assert json.loads(process.stdout.readline()) == {"lost": "the egress gate ended"}
    assert process.wait(10) == 0
    await until(lambda: not left_of(told), 5, f"left: {left_of(told)}")


async def test_S7_a_start_waits_for_the_spawner_of_a_dead_server_and_refuses_a_living_one(data_folder: Path) -> None:
    folder = data_folder / "locked"
    folder.mkdir()
    config = spawner_config(folder)
    first = start_spawner(config)
    dying = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl,os,time; fd = os.open({str(folder)!r}, 0); time.sleep(9)"]
    )
    dying.kill()
    dying.wait()
    first.socket.close()  # it ends in a moment; the next one waits
    second = start_spawner(config)
    assert second.stop() == 0
    assert first.process.wait(5) == 0


async def test_S8_a_weakened_facility_is_gone_without(data_folder: Path, owner: modes.Owner) -> None:
    folder = data_folder / "weak"
    folder.mkdir()
    config = owner.adapted(spawner_config(folder)) if owner.driver == "docker" else spawner_config(folder)
    config = replace(config, weaken=("cgroups", "seccomp", "egress"))
    driver = NsDriver(start_spawner(config), None)
    try:
        found = (await run(driver, "statuses")).answer
        assert found["main"]["Seccomp"] == ["0"]
        assert found["main"]["CapBnd"] == ["0" * 16]
        assert group_folders() == []
        box = await driver.start(spec("linger", {"stay": True}))
        output = asyncio.ensure_future(output_of(box))
        assert (await box.kill()).signal == 9
        await output
        bomb = await run(driver, "fork_bomb", {"bound": 500}, limits=replace(LIMITS, pids=40))
        assert 1 < bomb.answer["children"] < 40
    finally:
        await driver.close()


async def test_the_spawner_imports_nothing_heavy_and_holds_no_group_or_privilege_it_could_pass_on(
    driver: NsDriver,
) -> None:
    maps = Path(f"/proc/{driver_pid(driver)}/maps").read_text()
    for library in ("_asyncio", "uvloop", "_ssl", "sqlite", "msgspec"):
        assert library not in maps
    assert Path(f"/proc/{driver_pid(driver)}/task").is_dir()
    assert len(os.listdir(f"/proc/{driver_pid(driver)}/task")) == 1, "single-threaded"


async def test_the_gate_has_no_privilege(driver: NsDriver, owner: modes.Owner) -> None:
    assert driver._gate is not None
    text = Path(f"/proc/{driver._gate.process.pid}/status").read_text()
    rows = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert rows["Uid"].split() == [str(owner.uid)] * 4
    assert {rows[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert rows["NoNewPrivs"] == "1"
    if not owner.name:
        assert (rows["CapBnd"], rows["Groups"].strip()) == ("0" * 16, "")


def test_a_spawner_that_cannot_start_says_why(tmp_path: Path) -> None:
    config = SpawnerConfig(str(tmp_path / "missing"), harness.SERVER_UID, harness.SERVER_UID)
    with pytest.raises(LaunchFailed, match="missing"):
        start_spawner(config)


async def test_an_unknown_message_is_refused_and_the_spawner_goes_on(data_folder: Path) -> None:
    folder = data_folder / "messages"
    folder.mkdir()
    helper = start_spawner(spawner_config(folder))
    helper.socket.settimeout(5)
    for message in (b"junk", b"[]", b'{"seq": 1, "op": "dance"}', b'{"seq": 2, "op": "start"}', b"\xff" * 1000):
        helper.socket.send(message)
        assert "error" in json.loads(helper.socket.recv(65_536))
    with open("/dev/null", "rb") as file:
        socket.send_fds(helper.socket, [b'{"seq": 3, "op": "kill", "id": "none"}'], [file.fileno()] * 16)
    assert json.loads(helper.socket.recv(65_536)) == {"seq": 3}
    open_now = Path(f"/proc/{helper.process.pid}/fd")
    await until(lambda: len(os.listdir(open_now)) < 20, 2, "descriptors it did not ask for are closed")
    assert helper.stop() == 0


async def test_a_hundred_starts_at_once_all_succeed(driver: NsDriver) -> None:
    """More than the control socket's buffer takes: the rest waits its turn."""
    before = len(os.listdir("/proc/self/fd"))
    argv = ("/usr/bin/true",)
    environment = {"PADDING": "x" * 20_000}
    specs = [spec("", argv=argv, environment=environment, network=Network.GATE, channel=True) for _ in range(100)]
    boxes = await asyncio.gather(*map(driver.start, specs))
    assert {(await box.wait()).code for box in boxes} == {0}
    for box in boxes:
        await output_of(box)
    assert len(os.listdir("/proc/self/fd")) == before
    assert repr(driver) == "<ns driver, alive, 0 sandboxes>"


async def test_closing_while_starts_are_under_way_ends_them(data_folder: Path) -> None:
    folder = data_folder / "closing"
    folder.mkdir()
    driver = NsDriver(start_spawner(spawner_config(folder)), None)
    starts = [asyncio.ensure_future(driver.start(spec("linger", {"stay": True}))) for _ in range(8)]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await driver.close()
        for ended in await asyncio.gather(*starts, return_exceptions=True):
            assert isinstance(ended, SandboxFailed) or (await ended.wait()).signal in (9, None)
    with pytest.raises(SandboxFailed, match="gone"):
        await driver.start(spec("say"))
    assert group_folders() == []
