"""Isolation cases F: what the inside can read, write and list."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.executor.sandbox.docker import HOLDER_INSIDE
from hearth.executor.sandbox.ns import NsDriver
from hearth.executor.sandbox.root import PROC_MASKS
from hearth.executor.sandbox.spec import Mount
from tests.sandbox import harness, modes
from tests.sandbox.harness import LIMITS, PROBE_FILES, PROBE_INSIDE, outside, run
from tests.support import docker

pytestmark = pytest.mark.anyio

FOLDERS_MASKED_BY_RUNC = {f"/proc/{name}" for name in PROC_MASKS if Path(f"/proc/{name}").is_dir()}
HOLDER_NAME = HOLDER_INSIDE.lstrip("/")
OF_GVISOR = ("fuse", "net/tun", "ptmx", "tty")
REFUSED = {"EROFS", "EACCES", "EPERM", "ENOENT"}


@pytest.fixture(scope="module")
def canaries(data_folder: Path) -> Iterator[dict[str, str]]:
    """A file with a token next to the data folder, in the home folder and in /tmp: path -> token."""
    paths = [f"{data_folder}-canary", str(Path.home() / f".hearth-canary-{os.getpid()}"), f"/tmp/canary-{os.getpid()}"]
    found = {path: secrets.token_hex(16) for path in paths}
    for path, token in found.items():
        Path(path).write_text(token)
    yield found
    for path in found:
        Path(path).unlink()


async def test_F1_nothing_of_the_root_or_the_code_can_be_written(driver: NsDriver, data_folder: Path) -> None:
    code = data_folder / "code"
    code.mkdir(exist_ok=True)
    (code / "main.py").write_text("original")
    os.chmod(code, 0o777)
    os.chmod(code / "main.py", 0o666)
    paths = [
        "/x",
        "/usr/x",
        "/etc/passwd",
        "/etc/x",
        "/mnt/code/main.py",
        "/mnt/code/x",
        PROBE_INSIDE,
        "/usr/bin/python3",
    ]
    paths += ["/run/x", "/opt/x", "/mnt/x", "/var/x", "/dev/x"]
    ran = await run(driver, "write_all", {"paths": [*paths, "/tmp/x"]}, mounts=(Mount(str(code), "/mnt/code"),))
    found = ran.answer
    assert found.pop("/tmp/x") == 1, "the control: /tmp can be written"
    assert set(found.values()) <= REFUSED, found
    assert (code / "main.py").read_text() == "original"
    assert not (code / "x").exists()


async def test_F2_host_files_cannot_be_read_by_any_name(driver: NsDriver, canaries: dict[str, str]) -> None:
    assert set(outside("read_all", {"paths": list(canaries)}).values()) == set(canaries.values()), "control"
    ran = await run(driver, "read_all", {"paths": list(canaries)})
    assert set(ran.answer.values()) <= REFUSED
    for path, token in canaries.items():
        ran = await run(driver, "links", {"path": path})
        assert token not in ran.text
        assert set(ran.answer.values()) <= REFUSED, ran.answer


async def test_F2_nothing_is_open_but_the_documented_descriptors(driver: NsDriver, owner: modes.Owner) -> None:
    with open("/dev/null", "rb") as extra:
        ran = await run(driver, "descriptors", descriptors={7: extra.fileno()}, channel=True)
    found = ran.answer
    listing = [name for name, target in found.items() if target.startswith("/proc/")]
    opened = set(found) - set(listing)
    assert opened >= {"0", "1", "2", "3", "7"}
    # runc passes on every number up to the highest: those between are the null device
    others = {found[name] for name in opened - {"0", "1", "2", "3", "7"}}
    assert others <= ({"/dev/null"} if owner.driver == "oci" else set())
    if owner.has_gvisor:
        assert all(found[name].startswith("host:[") for name in opened), "files of the host, by a number alone"
        assert len(opened) == 5
        return
    assert found["0"] == found["7"] == "/dev/null"
    assert found["1"] == found["2"]
    assert found["1"].startswith("pipe:")
    assert found["3"].startswith("socket:")


async def test_F3_only_the_documented_folders_exist(driver: NsDriver, data_folder: Path, owner: modes.Owner) -> None:
    paths = [
        "/",
        "/home",
        "/root",
        "/var",
        "/srv",
        "/sys",
        "/boot",
        "/usr/local",
        "/usr/src",
        "/mnt",
        "/opt",
        "/run",
        "/tmp",
    ]
    ran = await run(driver, "list_all", {"paths": paths})
    found = ran.answer
    if owner.driver == "docker" and not harness.SYSTEM:
        assert set(found["/"]) <= {*docker.TOP_FOLDERS, "dev", "mnt", "proc", "run", "sys", ".dockerenv", HOLDER_NAME}
        assert all(
            found[path] in ("ENOENT", []) for path in ("/home", "/root", "/srv", "/sys", "/boot", "/run", "/tmp")
        )
        assert found["/mnt"] == list(PROBE_FILES)
        assert data_folder.name not in ran.text
        return
    top = {"bin", "dev", "etc", "lib", "mnt", "opt", "proc", "run", "sbin", "tmp", "usr", "var"}
    if owner.has_gvisor:
        assert found.pop("/sys") == [], "it is always there"
        found["/"].remove("sys")
        found["/sys"] = "ENOENT"
    assert set(found["/"]) - {name for name in found["/"] if name.startswith("lib")} == top - {"lib"}
    assert {found[path] for path in ("/home", "/root", "/srv", "/sys", "/boot")} == {"ENOENT"}
    assert found["/var"] == ["empty", "tmp"]
    assert found["/mnt"] == list(PROBE_FILES)
    assert all(found[path] == [] for path in ("/usr/local", "/usr/src", "/opt", "/run", "/tmp"))
    assert data_folder.name not in ran.text


async def test_F4_the_mount_table_names_nothing_of_the_host_and_every_mount_is_confined(
    driver: NsDriver, data_folder: Path, owner: modes.Owner
) -> None:
    folder = data_folder / "work" / "secret-function-name"
    folder.mkdir(parents=True, exist_ok=True)
    mounts = (Mount(str(folder), "/mnt/code"), Mount(str(data_folder / "w"), "/mnt/out", writable=True))
    ran = await run(driver, "read_all", {"paths": ["/proc/self/mountinfo"]}, mounts=mounts)
    rows = [line.split() for line in ran.answer["/proc/self/mountinfo"].splitlines()]
    if owner.has_gvisor:
        assert_shows_only_its_own(rows, data_folder)
        return
    assert len(rows) > 10
    options = {row[4]: set(row[5].split(",")) for row in rows}
    writable = {target for target, flags in options.items() if "ro" not in flags}
    assert writable == {"/proc", "/tmp", "/dev/shm", "/mnt/out"}
    for row in rows:
        flags = options[row[4]]
        if owner.driver == "oci" and row[4] in FOLDERS_MASKED_BY_RUNC:
            assert "ro" in flags, "empty and read-only: there is nothing to be set-uid or a device"
            continue
        assert "nosuid" in flags, row
        is_device = row[3] in ("/null", "/zero", "/full", "/random", "/urandom")
        assert "nodev" in flags or is_device, row


def assert_shows_only_its_own(rows: list[list[str]], data_folder: Path) -> None:
    """The mount table of gVisor, which has no sources: what can be written, and that nothing has a name of the host."""
    writable = {row[4] for row in rows if "ro" not in row[5].split(",")}
    assert writable == {"/proc", "/dev", "/dev/pts", "/tmp", "/dev/shm", "/mnt/out"}
    assert {row[3] for row in rows} == {"/"}
    assert data_folder.name not in str(rows)


async def test_F5_no_device_can_be_made_or_opened(driver: NsDriver, owner: modes.Owner) -> None:
    paths = ["/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/vda", "/dev/sda", "/dev/loop0"]
    paths += ["/dev/loop-control", "/dev/ptmx", "/dev/tty"]
    ran = await run(driver, "devices", {"paths": paths})
    found = ran.answer
    if owner.has_gvisor:  # terminals, FUSE and tunnels of its own kernel, which lead nowhere
        for name in OF_GVISOR:
            found.pop(f"/dev/{name}")
            paths.remove(f"/dev/{name}")
        found["dev"] = sorted(set(found["dev"]) - {"fuse", "net", "ptmx", "pts", "tty"})
    assert {found[path] for path in paths} <= {"ENOENT", "EACCES", "EPERM", "ENXIO"}
    assert {found["mknod block"], found["mknod char"]} == {"EPERM"}
    assert found["dev"] == sorted(
        ["null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr", "shm"]
    )
    assert found["usable"] == {"null": 0, "zero": 4, "urandom": 4} or found["usable"]["urandom"] > 0
    assert found["reopen stdout"] == 0


@pytest.mark.parametrize(("folder", "size"), [("/tmp", 8 << 20), ("/dev/shm", 8 << 20)])
async def test_F6_temporary_folders_end_at_their_size_and_inode_count(
    driver: NsDriver, folder: str, size: int, owner: modes.Owner
) -> None:
    limits = replace(LIMITS, tmp_bytes=size, tmp_inodes=500)
    free = os.statvfs("/").f_bfree
    ran = await run(driver, "fill", {"folder": folder, "bound": 64 << 20, "files": 5_000}, limits=limits)
    found = ran.answer
    assert found["end"] == "ENOSPC"
    assert abs(found["bytes"] - size) <= 1 << 20
    if owner.has_gvisor:  # it counts no inodes; they are memory of the sandbox's (test_runsc)
        assert found["files_end"] == "bound"
    else:
        assert found["files_end"] == "ENOSPC"
        assert found["files"] < (500 if folder == "/tmp" else 1_024)
    assert abs(os.statvfs("/").f_bfree - free) < (64 << 20) // 4096


async def test_F7_what_one_sandbox_leaves_in_tmp_no_other_sees(driver: NsDriver) -> None:
    left = await run(driver, "write_all", {"paths": ["/tmp/left", "/dev/shm/left"]})
    assert set(left.answer.values()) == {1}
    ran = await run(driver, "list_all", {"paths": ["/tmp", "/dev/shm"]})
    assert ran.answer == {"/tmp": [], "/dev/shm": []}


async def test_F9_one_file_ends_at_the_file_size_limit(driver: NsDriver) -> None:
    limits = replace(LIMITS, file_size_bytes=1 << 20)
    ran = await run(driver, "fill", {"folder": "/tmp", "bound": 8 << 20, "files": 10}, limits=limits)
    assert ran.answer["end"] == "EFBIG" or ran.exit.signal == 25
    assert ran.answer["bytes"] == 1 << 20


async def test_F10_no_program_gains_an_identity_or_a_capability_by_exec(driver: NsDriver, owner: modes.Owner) -> None:
    ran = await run(driver, "setuid_exec")
    found = ran.answer
    rows = dict(line.split(" ", 1) for line in found["copy"] if line)
    uid = rows["Uid:"].split()[0]
    assert int(uid) > 0
    assert set(rows["Uid:"].split()) == set(rows["Gid:"].split()) == {uid}
    assert rows["CapEff:"] == rows["CapPrm:"] == "0" * 16
    assert rows.get("NoNewPrivs:") == (None if owner.has_gvisor else "1"), "gVisor does not tell"
    assert found["xattr"] == ("ENOTSUP" if owner.has_gvisor else "EPERM")
    for command in ("su -c id", "mount -t tmpfs x /mnt"):
        assert "uid=0" not in found[command]
        assert not found[command].endswith("\n0\n"), found[command]
