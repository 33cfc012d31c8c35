"""Load from a process of its own: `wrk` over keep-alive connections, closed loop, one request in flight each."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SPARE_S = 20.0

# Latencies are in microseconds inside wrk; percentiles are of the whole run, not of samples.
SCRIPT = """
wrk.method = "POST"
wrk.body = %(body)s
%(headers)s
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %%d, "duration_us": %%d, "p50_us": %%d, "p99_us": %%d, "bad_status": %%d, "broken": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


class BenchFailed(Exception):
    """A measurement that must not be believed; the message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of requests showed."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


def run_load(url: str, body: str, headers: Mapping[str, str], connections: int, seconds: int) -> Load:
    """POST `body` to `url` for some seconds. Raises BenchFailed if any answer was not good."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "request.lua"
        lines = "\n".join(f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in headers.items())
        script.write_text(SCRIPT % {"body": _lua(body), "headers": lines})
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + SPARE_S, check=False)
    if done.returncode != 0:
        raise BenchFailed(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    seen = json.loads(done.stdout.splitlines()[-1])
    if seen["bad_status"] or seen["broken"] or not seen["requests"]:
        raise BenchFailed(f"{url} with {connections} connections: {seen}")
    return Load(
        requests=seen["requests"],
        per_second=seen["requests"] / (seen["duration_us"] / 1e6),
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
    )


def _lua(text: str) -> str:
    """A Lua string literal: JSON's escapes are Lua's, for the ASCII texts that we send."""
    return json.dumps(text)
