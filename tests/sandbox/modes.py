"""The ways to run sandboxes that every case is run on, and what each needs of this machine."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from tests.support.server import Server, running_server

NS_ROOT = "ns root"
NS_USER = "ns user"
OCI = "oci runc"
ALL = (NS_ROOT,)


def why_not(mode: str) -> str:
    """The facility that is missing here for a mode, as skips quote it; `""` when there is none."""
    if os.geteuid() != 0:
        return "facility root: the tests start servers of their own and need root"
    if mode == NS_USER and shutil.which("newuidmap") is None:
        return "facility userns: newuidmap is not installed (Debian package uidmap)"
    if mode == OCI and shutil.which("runc") is None:
        return "facility runc: not installed (Debian package runc)"
    return ""


SETTINGS = {
    "HEARTH_MAX_INSTANCES_PER_FUNCTION": "4",
    "HEARTH_BUILD_DISK_MB": "128",
    "HEARTH_BUILD_TIMEOUT": "12",
    "AWS_SECRET_ACCESS_KEY": "server-canary",
}


@contextlib.contextmanager
def server(mode: str) -> Iterator[Server]:
    """A running server of a mode, with small limits."""
    with running_server(SETTINGS) as made:
        yield made
