"""The ways to run sandboxes that every case is run on: what each needs of this machine, and how to start it."""

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from hearth.executor.sandbox import launch
from hearth.executor.sandbox.cgroups import NEEDED, hierarchies
from hearth.executor.sandbox.config import SpawnerConfig
from tests.sandbox import harness
from tests.support import docker, gvisor
from tests.support.runtimes import runtime_of
from tests.support.server import Server, server_folder
from tests.support.uids import first_uid

NS_ROOT = "ns root"
NS_USER = "ns user"
OCI = "oci runc"
GVISOR = "oci runsc"
DOCKER = "docker"
ALL = (NS_ROOT, NS_USER, OCI, GVISOR, DOCKER)
FIRST_SUBORDINATE, SUBORDINATE = first_uid(400_000), 65_536

SETTINGS = {
    "HEARTH_MAX_INSTANCES_PER_FUNCTION": "4",
    "HEARTH_BUILD_DISK_MB": "128",
    "HEARTH_BUILD_TIMEOUT": "12",
    "AWS_SECRET_ACCESS_KEY": "server-canary",
}


def why_not(mode: str) -> str:
    """The facility that is missing here for a mode, as skips quote it; `""` when there is none."""
    if os.geteuid() != 0:
        return "facility root: the tests start servers of their own and need root"
    if mode == NS_USER and shutil.which("newuidmap") is None:
        return "facility uidmap: newuidmap is not installed"
    if mode == OCI and shutil.which("runc") is None:
        return "facility runc: not installed"
    if mode == GVISOR and (missing := gvisor.why_not()):
        return f"facility runsc: {missing}"
    if mode == DOCKER and (missing := docker.why_not()):
        return f"facility docker: {missing}"
    return ""


@dataclass
class Owner:
    """Whoever starts servers in a mode: root, or a login user made for the tests, with subordinate ids and control
    groups delegated to him as systemd does it.
    """

    uid: int
    """Whose the files of the data folder are."""
    gid: int
    first_uid: int
    """First host uid that sandboxes of driver-level tests may get."""
    name: str = ""
    """Empty for root."""
    driver: str = "ns"
    oci_runtime: str = ""
    """The program that the driver `oci` uses, `""` = its default."""
    docker_socket: str = ""
    groups: list[Path] = field(default_factory=list)

    @property
    def has_gvisor(self) -> bool:
        """Whether sandboxes have a kernel of their own."""
        return bool(self.oci_runtime)

    @property
    def prefix(self) -> list[str]:
        """What goes before a command that he is to run, in his own control groups."""
        if not self.name:
            return []
        enter = "".join(f"echo $$ > {path}/cgroup.procs; " for path in self.groups)
        become = f"setpriv --reuid={self.uid} --regid={self.gid} --init-groups --inh-caps=-all --"
        return ["sh", "-ec", f'{enter}exec {become} "$@"', "sh"]

    def adapted(self, config: SpawnerConfig) -> SpawnerConfig:
        """The configuration as a server of this owner would have it."""
        if not self.name:
            images = (docker.IMAGE,) if self.docker_socket else ()
            chosen = replace(config, driver=self.driver, docker_socket=self.docker_socket, images=images)
            return replace(chosen, oci_runtime=self.oci_runtime) if self.oci_runtime else chosen
        ids = (self.first_uid, SUBORDINATE)
        changes = {"server_uid": 0, "server_gid": 0, "uid_first": 1, "uid_count": 500}
        return replace(config, outer_uids=ids, outer_gids=ids, **changes)

    @contextlib.contextmanager
    def making_pipes(self) -> Iterator[None]:
        """Meanwhile pipes of this process are his, as those of his own server would be."""
        real = os.pipe2

        def pipe2(flags: int) -> tuple[int, int]:
            pair = real(flags)
            if self.name:
                os.fchown(pair[0], self.uid, self.gid)
            return pair

        with mock.patch.object(os, "pipe2", pipe2):
            yield

    @contextlib.contextmanager
    def launching(self) -> Iterator[None]:
        """Meanwhile the helper processes that this process starts are his."""
        real = subprocess.Popen

        def popen(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
            return real([*self.prefix, *command], **options)

        with mock.patch.object(launch.subprocess, "Popen", popen):
            yield


@contextlib.contextmanager
def owner(mode: str) -> Iterator[Owner]:
    """The owner of a mode, made for the tests if need be."""
    if mode == DOCKER:
        with docker.daemon() as made, harness.with_image(docker.IMAGE):
            yield Owner(
                harness.SERVER_UID, harness.SERVER_UID, harness.FIRST_UID, driver="docker", docker_socket=made.socket
            )
        return
    if mode != NS_USER:
        driver = "oci" if mode in (OCI, GVISOR) else "ns"
        program = gvisor.program() if mode == GVISOR else ""
        yield Owner(harness.SERVER_UID, harness.SERVER_UID, harness.FIRST_UID, driver=driver, oci_runtime=program or "")
        return
    with ordinary_user() as made:
        yield made


@contextlib.contextmanager
def ordinary_user(delegate: bool = True, subordinate: bool = True) -> Iterator[Owner]:
    """Make the user, and remove him and what was delegated to him."""
    name = f"hearth-test-{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    try:
        entry = pwd.getpwnam(name)
        # useradd may have given a range of its own choosing
        subprocess.run(["sed", "-i", f"/^{name}:/d", "/etc/subuid", "/etc/subgid"], check=True)
        if subordinate:
            span = f"{FIRST_SUBORDINATE}-{FIRST_SUBORDINATE + SUBORDINATE - 1}"
            subprocess.run(["usermod", "--add-subuids", span, "--add-subgids", span, name], check=True)
        user = Owner(entry.pw_uid, entry.pw_gid, FIRST_SUBORDINATE, name)
        try:
            if delegate:
                delegate_groups(user)
            yield user
        finally:
            for path in user.groups:
                for folder, _, _ in os.walk(path, topdown=False):
                    os.rmdir(folder)
    finally:
        subprocess.run(["userdel", name], check=True)


def delegate_groups(user: Owner) -> None:
    """Give the user a group in each hierarchy, with the files that delegation is about (cgroups(7))."""
    for one in hierarchies(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()):
        if not one.unified and not one.controllers & {*NEEDED, "freezer"}:
            continue
        folder = Path(one.own) / user.name
        folder.mkdir()
        user.groups.append(folder)
        for path in (folder, *folder.glob("cgroup.*"), *folder.glob("tasks")):
            os.chown(path, user.uid, user.gid)


@contextlib.contextmanager
def server(owner: Owner, settings: dict[str, str] | None = None) -> Iterator[Server]:
    """A running server of an owner, with small limits; at the end it has to stop in order and leave nothing."""
    with server_folder() as folder:
        if owner.name:
            os.chown(folder, owner.uid, owner.gid)
        chosen = {"HEARTH_SANDBOX_DRIVER": owner.driver}
        if owner.oci_runtime:
            chosen["HEARTH_OCI_RUNTIME"] = owner.oci_runtime
        if owner.docker_socket:
            image = f"{runtime_of('python')}={docker.IMAGE}#/usr/bin/python3"
            chosen |= {"HEARTH_DOCKER_SOCKET": owner.docker_socket, "HEARTH_DOCKER_IMAGES": image}
        made = Server(folder, SETTINGS | chosen | (settings or {}), owner.prefix, owner.groups)
        made.start()
        try:
            yield made
        finally:
            code = made.stop() if made.is_running else 0
        assert code == 0, f"exit code {code}; the server said:\n{made.log[-4000:]}"
        made.assert_nothing_left()
