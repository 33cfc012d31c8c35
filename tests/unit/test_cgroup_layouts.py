"""Where groups go on v1, v2 and hybrid hosts, told from the texts of /proc; v2 by a stand-in for the kernel's files."""

import errno
import os
from pathlib import Path

import pytest

from hearth.executor.sandbox import cgroup_folders, cgroups
from hearth.executor.sandbox.cgroups import CgroupError, Cgroups, hierarchies

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = """36 35 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
37 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
38 35 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
39 35 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
40 35 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
CONTAINER = "37 35 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def test_a_v2_host_has_one_hierarchy_below_the_own_group() -> None:
    (one,) = hierarchies(V2, "0::/system.slice/hearth.service\n")
    assert (one.mount, one.own, one.unified) == ("/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/hearth.service", True)


def test_a_hybrid_host_has_a_place_per_controller_and_ignores_others() -> None:
    own = "4:memory:/a/b\n3:cpu,cpuacct:/\n2:pids:/p\n1:name=systemd:/s\n0::/u\n"
    found = {one.mount.rsplit("/", 1)[1]: one for one in hierarchies(HYBRID, own)}
    assert set(found) == {"cpu", "memory", "pids", "unified"}
    assert found["memory"].own == "/sys/fs/cgroup/memory/a/b"
    assert found["cpu"].own == "/sys/fs/cgroup/cpu"
    assert found["cpu"].controllers == {"cpu", "cpuacct"}
    assert found["unified"].own == "/sys/fs/cgroup/unified/u"


def test_in_a_container_the_own_group_is_told_from_the_mounts_root() -> None:
    (one,) = hierarchies(CONTAINER, "4:memory:/docker/abc/inner\n")
    assert one.own == "/sys/fs/cgroup/memory/inner"
    (one,) = hierarchies(CONTAINER, "4:memory:/elsewhere\n")
    assert one.own == "/sys/fs/cgroup/memory"


class Kernel:
    """Stands in for the files of a v2 hierarchy: which processes are where, what was enabled, what was written."""

    def __init__(self, root: Path, own: str) -> None:
        self.root = root
        self.own = root / own
        self.own.mkdir(parents=True)
        self.controllers = "cpuset cpu io memory pids"
        self.processes: dict[Path, set[int]] = {self.own: {10, 11}, root: set()}
        self.written: dict[str, str] = {}

    def read(self, path: str) -> str:
        folder, name = os.path.split(path)
        if path == "/proc/self/mountinfo":
            return f"30 23 0:26 / {self.root} rw - cgroup2 cgroup2 rw\n"
        if path == "/proc/self/cgroup":
            return f"0::/{self.own.relative_to(self.root)}\n"
        if name == "cgroup.controllers":
            return self.controllers
        if name == "cgroup.procs":
            return "\n".join(map(str, self.processes.get(Path(folder), ())))
        raise FileNotFoundError(path)

    def write(self, path: str, value: object) -> None:
        folder, name = os.path.split(path)
        if not Path(folder).is_dir():
            raise FileNotFoundError(path)
        if name == "cgroup.subtree_control" and Path(folder) != self.root and self.processes.get(Path(folder)):
            raise OSError(errno.EBUSY, "no internal processes")
        if name == "cgroup.procs":
            for members in self.processes.values():
                members.discard(int(str(value)))
            self.processes.setdefault(Path(folder), set()).add(int(str(value)))
        self.written[os.path.relpath(path, self.root)] = str(value)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path, "system.slice/hearth.service")
    for module in (cgroups, cgroup_folders):
        monkeypatch.setattr(module, "read", made.read)
        monkeypatch.setattr(module, "write", made.write)
    return made


def test_on_v2_the_servers_processes_move_to_a_leaf_so_that_children_may_have_limits(kernel: Kernel) -> None:
    groups = Cgroups("hearth-x")
    groups.prepare((10, 11))
    assert kernel.processes[kernel.own] == set()
    assert kernel.processes[kernel.own / "hearth-server"] == {10, 11}
    own = "system.slice/hearth.service"
    assert kernel.written[f"{own}/cgroup.subtree_control"] == "+memory +cpu +pids"
    assert kernel.written[f"{own}/hearth-x/cgroup.subtree_control"] == "+memory +cpu +pids"


def test_on_v2_a_server_that_is_in_its_leaf_already_stays_there(kernel: Kernel) -> None:
    """The probe before the start moved it; the spawner must not nest a leaf in the leaf."""
    Cgroups("hearth-probe").prepare((10, 11))
    top = kernel.own
    kernel.own = top / "hearth-server"
    Cgroups("hearth-x").prepare((10, 11))
    assert (top / "hearth-x").is_dir()
    assert kernel.processes[top / "hearth-server"] == {10, 11}


def test_on_v2_a_sandbox_has_its_limits_and_ends_as_a_whole_when_memory_is_out(kernel: Kernel) -> None:
    groups = Cgroups("hearth-x")
    groups.prepare((10, 11))
    group = groups.create("a", 64 << 20, 0.5, 20)
    assert group.oom_event_fd == -1
    folder = f"{kernel.own}/hearth-x/a"
    assert group.folders == (folder,)
    assert groups.unified_folder(group) == folder
    prefix = os.path.relpath(folder, kernel.root)
    expected = {"memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "20"}
    expected["cpu.max"] = "50000 100000"
    assert {name: kernel.written[f"{prefix}/{name}"] for name in expected} == expected
    groups.kill(group)
    assert kernel.written[f"{prefix}/cgroup.kill"] == "1"
    assert groups.remove(group)
    assert not Path(folder).exists()
    assert groups.remove(group), "removing twice is fine"


def test_on_v2_with_strangers_in_the_own_group_the_root_is_used(kernel: Kernel) -> None:
    kernel.processes[kernel.own].add(99)
    groups = Cgroups("hearth-x")
    groups.prepare((10, 11))
    assert kernel.processes[kernel.own] == {10, 11, 99}, "nobody was moved"
    assert (kernel.root / "hearth-x").is_dir()


def test_without_the_controllers_the_reason_names_them(kernel: Kernel) -> None:
    kernel.controllers = "cpu"
    with pytest.raises(CgroupError, match="offers no memory, pids"):
        Cgroups("hearth-x").prepare((10, 11))


def test_a_group_that_cannot_be_made_leaves_nothing(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Cgroups("hearth-x")
    groups.prepare((10, 11))

    def refuse(path: str, value: object) -> None:
        raise OSError(errno.EINVAL, "refused")

    for module in (cgroups, cgroup_folders):
        monkeypatch.setattr(module, "write", refuse)
    with pytest.raises(CgroupError, match="create group a"):
        groups.create("a", 64 << 20, 0.5, 20)
    assert not (kernel.own / "hearth-x" / "a").exists()
