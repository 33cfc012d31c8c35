"""Which drivers the executor's tests run on: plain processes always, real sandboxes where they can be had."""

import os
from pathlib import Path

import pytest

from hearth.executor.sandbox.spec import Driver
from tests.support.process_driver import ProcessDriver

DRIVERS = [pytest.param("process"), pytest.param("ns", marks=pytest.mark.sandbox)]


def make_driver(name: str, folder: Path) -> Driver:
    """A driver whose sandboxes keep their things below `folder`."""
    if name == "process":
        return ProcessDriver()
    if os.geteuid() != 0:
        pytest.skip("facility: real sandboxes need root here")
    from tests.support.sandboxes import ns_driver

    return ns_driver(folder)
