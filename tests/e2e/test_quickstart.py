"""`hearth quickstart --once`: every example is deployed and run; a second start only runs them again."""

import json
import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.leftovers import mounts_below, processes_using
from tests.support.server import HEARTH, free_port, server_folder, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.network, pytest.mark.clients]

RUN_WAIT_S = 300.0
EXAMPLES = ("hello-node", "hello-python", "node-npm-dependency", "python-pip-dependency")


def quickstart(data_dir: Path) -> subprocess.CompletedProcess[str]:
    argv = [str(HEARTH), "quickstart", "--once", "--data-dir", str(data_dir), "--port", str(free_port())]
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_once_it_serves_until_a_signal_and_leaves_nothing(number: signal.Signals) -> None:
    with server_folder() as folder:
        data_dir = folder / "data"
        output = folder / "output"
        argv = [str(HEARTH), "quickstart", "--data-dir", str(data_dir), "--port", str(free_port())]
        with output.open("wb") as file:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: "Ctrl-C stops." in output.read_text(), RUN_WAIT_S, "the results")
            endpoint = json.loads((data_dir / "credentials.json").read_text())["endpoint"]
            answer = httpx.get(f"{endpoint}/health/version", trust_env=False)
            assert answer.json() == {"version": "1.9.6"}
            process.send_signal(number)
            assert process.wait(60) == 0, output.read_text()
        finally:
            process.kill()
            process.wait()
        wait_for(lambda: not processes_using(data_dir) and not mounts_below(data_dir), 15, "everything to be gone")


def test_a_quickstart_that_is_killed_takes_its_server_along() -> None:
    with server_folder() as folder:
        data_dir = folder / "data"
        port = free_port()
        argv = [str(HEARTH), "quickstart", "--data-dir", str(data_dir), "--port", str(port)]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: _answers(port), RUN_WAIT_S, "the server")
        finally:
            process.kill()
            process.wait()
        wait_for(lambda: not processes_using(data_dir) and not mounts_below(data_dir), 60, "everything to be gone")


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v1/health/version", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
