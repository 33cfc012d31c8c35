"""`hearth quickstart --once`: every example is deployed and run; a second start only runs them again."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.leftovers import mounts_below, processes_using
from tests.support.server import HEARTH, free_port, server_folder

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.network, pytest.mark.clients]

RUN_WAIT_S = 300.0
EXAMPLES = ("hello-node", "hello-python", "node-npm-dependency", "python-pip-dependency")


def quickstart(data_dir: Path) -> subprocess.CompletedProcess[str]:
    argv = [HEARTH, "quickstart", "--once", "--data-dir", data_dir, "--port", str(free_port())]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=RUN_WAIT_S, stdin=subprocess.DEVNULL, env=environment, check=False
    )


def test_the_examples_run_and_run_again_without_a_build() -> None:
    with server_folder() as folder:
        data_dir = folder / "data"
        first = quickstart(data_dir)
        assert first.returncode == 0, first.stdout + first.stderr
        for name in EXAMPLES:
            assert f"{name}: built in " in first.stdout
        for words in ("Hello, Ada!", "Hello, Grace!", "aerger-mit-der-strasse", "123.5 MB"):
            assert words in first.stdout
        credentials = data_dir / "credentials.json"
        assert credentials.stat().st_mode & 0o777 == 0o600
        owner = json.loads(credentials.read_text())

        second = quickstart(data_dir)
        assert second.returncode == 0, second.stdout + second.stderr
        for name in EXAMPLES:
            assert f"{name}: deployed earlier, same code" in second.stdout
        assert json.loads(credentials.read_text()) == {
            **owner,
            "endpoint": json.loads(credentials.read_text())["endpoint"],
        }
        assert processes_using(data_dir) + mounts_below(data_dir) == []
