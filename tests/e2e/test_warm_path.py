"""A warm execution: its record is there for whoever reads right after the answer, and no file is opened on its way."""

import re
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.api import create_function, deploy, execute, ok
from tests.support.leftovers import footprint
from tests.support.runtimes import runtime_of
from tests.support.server import Server, free_port, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

COUNT = 200
#: What runs in the background (checkpoints, a stem cell that starts) may open a file now and then.
BACKGROUND_MAX = COUNT // 10
SOURCES = {
    "python": ("main.py", "def main(context):\n    context.log('one line')\n    return context.res.text('hello')\n"),
    "node": ("main.js", "module.exports = async ({ res, log }) => { log('one line'); return res.text('hello'); };\n"),
}
ID = re.compile(r"[0-9a-f]{8,}|\d+")
OPENED = re.compile(r'\b(?:open|openat|openat2|creat)\((?:AT_FDCWD, |\d+(?:<[^>]*>)?, )?"([^"]*)"')


def run(client: httpx.Client, id: str) -> str:
    """One execution; its id. On an open connection, in the way of the hot lane."""
    return str(execute(client, id)["$id"])


@pytest.mark.parametrize("family", SOURCES)
def test_no_file_is_opened_for_a_warm_execution(family: str, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (see `scripts/setup test`)")
    entrypoint, source = SOURCES[family]
    with running_server() as server, server.client() as client:
        create_function(client, "warm", runtime_of(family), entrypoint=entrypoint)
        deploy(client, "warm", {entrypoint: source})
        for _ in range(20):
            run(client, "warm")
        traced = [process for process in footprint(server.pid).processes if ".sandbox." not in process.command]
        output = tmp_path / "opened"
        pids = [argument for process in traced for argument in ("-p", str(process.pid))]
        tracing = subprocess.Popen(
            [strace, "-f", "-qq", "-e", "trace=open,openat,openat2,creat,getpid", "-o", str(output), *pids],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: tracing.poll() is not None or _is_traced(server.pid), 10, "strace to attach")
            if tracing.poll() is not None:
                pytest.skip(
                    f"strace may not look at other processes here: {tracing.stderr.read() if tracing.stderr else ''}"
                )
            for _ in range(COUNT):
                run(client, "warm")
        finally:
            tracing.terminate()
            tracing.wait(10)
            if tracing.stderr:
                tracing.stderr.close()
        # Alike but for numbers and ids is one: what an execution opened would be there once for each of them.
        opened = Counter(ID.sub("*", path) for path in OPENED.findall(output.read_text()))
        assert not opened or max(opened.values()) < BACKGROUND_MAX, opened.most_common(20)


def test_strace_would_have_seen_a_file_that_a_function_opens(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (see `scripts/setup test`)")
    output = tmp_path / "opened"
    done = subprocess.run(
        [strace, "-f", "-qq", "-o", str(output), "cat", "/etc/hostname"], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"strace may not look at other processes here: {done.stderr!r}")
    assert "/etc/hostname" in OPENED.findall(output.read_text())


def test_whoever_reads_right_after_the_answer_finds_the_execution() -> None:
    entrypoint, source = SOURCES["python"]
    figures = f"127.0.0.1:{free_port()}"
    with running_server({"HEARTH_METRICS_LISTEN": figures}) as server, server.client() as client:
        create_function(client, "warm", runtime_of("python"), entrypoint=entrypoint)
        deploy(client, "warm", {entrypoint: source})

        def work(_: int) -> None:
            with server.client() as own:
                for _ in range(20):
                    id = run(own, "warm")
                    assert ok(own.get(f"/functions/warm/executions/{id}"))["status"] == "completed"
                    newest = {"queries[0]": '{"method":"orderDesc","attribute":"$sequence"}'}
                    listed = ok(own.get("/functions/warm/executions", params=newest))["executions"]
                    assert id in [item["$id"] for item in listed]

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
        assert ok(client.get("/functions/warm/executions"))["total"] == 160
        _assert_counted(server, figures)


def _assert_counted(server: Server, figures: str) -> None:
    """The metrics tell of the 160 executions, without a token on their own listener and with it beside the API."""
    shown = httpx.get(f"http://{figures}/metrics", trust_env=False).text.splitlines()
    assert 'hearth_executions_total{runtime="python",status="completed",trigger="http"} 160.0' in shown
    assert 'hearth_execution_duration_seconds_count{runtime="python",trigger="http"} 160.0' in shown
    assert 'hearth_http_requests_total{route="executions.create",status="201"} 160.0' in shown
    assert 'hearth_builds_total{status="ready"} 1.0' in shown
    assert "hearth_database_up 1.0" in shown
    starts = [float(line.rpartition(" ")[2]) for line in shown if line.startswith("hearth_execution_starts_total{")]
    assert sum(starts) == 160
    assert sum(float(line.rpartition(" ")[2]) for line in shown if line.startswith("hearth_instances{")) >= 1
    beside = f"http://127.0.0.1:{server.port}/metrics"
    assert httpx.get(beside, headers=server.headers, trust_env=False).status_code == 401
    token_file = server.data_dir / "keys" / "metrics.token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    bearer = {"authorization": f"Bearer {token_file.read_text()}"}
    assert 'route="executions.get"' in httpx.get(beside, headers=bearer, trust_env=False).text


def _is_traced(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(line.startswith("TracerPid:") and int(line.split()[1]) != 0 for line in lines)
