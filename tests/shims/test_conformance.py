"""The runtime contract as seen through the executor; numbers are the cases of runtime-contract section 8."""

import asyncio
import hashlib
import json
import re
from typing import Any

import pytest

from hearth.model.running import Outcome, Result
from tests.shims.conftest import Conformance

pytestmark = pytest.mark.anyio

NOTICE = "Native logs detected. Use context.log() or context.error() for better experience."
MIB = 1024 * 1024


def header(result: Result, name: str) -> str | None:
    found = [value for key, value in result.headers if key == name]
    assert len(found) <= 1
    return found[0] if found else None


def is_ok(result: Result, body: bytes, status: int = 200) -> None:
    assert (result.outcome, result.status_code, result.body, result.errors) == (Outcome.COMPLETED, status, body, "")


async def test_plain_text(run: Conformance) -> None:
    """6"""
    result = await run("text")
    is_ok(result, "Hello World 👋".encode())
    assert result.headers == (("content-type", "text/plain; charset=utf-8"),)
    assert result.logs == ""


async def test_json_is_compact(run: Conformance) -> None:
    """7, 8"""
    result = await run("json")
    is_ok(result, b'{"json":true,"message":"fine"}')
    assert header(result, "content-type") == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("charset", "text/plain; charset=iso-8859-1"),
        ("uppercaseType", "text/plain; charset=utf-8"),
        ("multipart", "multipart/form-data; boundary=12345"),
        ("sendBytes", "image/png; charset=utf-8"),
    ],
)
async def test_content_type_is_completed(run: Conformance, action: str, expected: str) -> None:
    """9, 10, 11, 49"""
    assert header(await run(action), "content-type") == expected


async def test_redirect(run: Conformance) -> None:
    """12"""
    result = await run("redirect")
    is_ok(result, b"", 301)
    assert header(result, "location") == "https://example.com/"


async def test_empty(run: Conformance) -> None:
    """13"""
    is_ok(await run("empty"), b"", 204)


async def test_a_missing_return_is_an_error(run: Conformance) -> None:
    """14"""
    result = await run("nothing")
    assert (result.outcome, result.status_code, result.body) == (Outcome.COMPLETED, 500, b"")
    assert result.errors == "Return statement missing. return context.res.empty() if no response is expected.\n"


async def test_the_returned_response_counts(run: Conformance) -> None:
    """15"""
    is_ok(await run("twice"), b"second")


async def test_response_headers_and_cookies(run: Conformance) -> None:
    """16"""
    cookies = "a=1; b=2; c=with=equals; d=with:colon; e=5"
    result = await run("headers", headers={"x-open-runtimes-custom-in-header": "x", "cookie": cookies})
    is_ok(result, b"OK")
    assert header(result, "first-header") == "first-value"
    assert header(result, "second-header") == "missing"
    assert header(result, "cookie") == cookies
    assert not [name for name, _ in result.headers if name.startswith("x-open-runtimes-")]


async def test_status_code(run: Conformance) -> None:
    """17"""
    is_ok(await run("status"), b"FAIL", 404)


async def test_a_thrown_error_has_the_users_stack_first(run: Conformance) -> None:
    """18"""
    result = await run("no such action")
    assert (result.status_code, result.body, result.logs) == (500, b"", "")
    assert "Unknown action" in result.errors
    assert run.template.entrypoint in result.errors or "conformance.py" in result.errors
    assert "/shims/" not in result.errors


async def test_logs_before_an_error_are_kept(run: Conformance) -> None:
    """19"""
    result = await run("logThenThrow")
    assert (result.status_code, result.logs) == (500, "before the error\n")
    assert "Error!" in result.errors


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_method(run: Conformance, method: str) -> None:
    """20"""
    is_ok(await run("method", method=method), method.encode())


URLS: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    (
        "/",
        {"host": "localhost:3000"},
        {"url": "http://localhost:3000/", "port": 3000, "path": "/", "query": {}, "queryString": "", "scheme": "http",
         "host": "localhost"},
    ),
    (
        "/a/b?c=d&e=f#something",
        {"x-forwarded-proto": "https", "host": "www.mydomain.com:3001"},
        {"url": "https://www.mydomain.com:3001/a/b?c=d&e=f", "port": 3001, "path": "/a/b",
         "query": {"c": "d", "e": "f"}, "queryString": "c=d&e=f", "scheme": "https", "host": "www.mydomain.com"},
    ),
    ("/", {"host": "www.mydomain.com:80"}, {"url": "http://www.mydomain.com/", "port": 80}),
    (
        "/?a=b&c==d&e=f=g=&h&i=j&&k",
        {},
        {"query": {"a": "b", "c": "=d", "e": "f=g=", "h": "", "i": "j", "k": ""}},
    ),
    ("/", {"host": "myapp.com", "x-forwarded-proto": "https"}, {"url": "https://myapp.com/", "port": 443}),
    ("/", {"host": "myapp.com:443", "x-forwarded-proto": "https"}, {"url": "https://myapp.com/", "port": 443}),
    ("/", {"host": "myapp.com:80", "x-forwarded-proto": "https"}, {"url": "https://myapp.com:80/", "port": 80}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "headers", "expected"), URLS)
async def test_url(run: Conformance, path: str, headers: dict[str, str], expected: dict[str, Any]) -> None:
    """21 to 27"""
    seen = json.loads((await run("url", path=path, headers=headers)).body)
    assert {name: seen[name] for name in expected} == expected


async def test_request_headers_are_lower_case_and_without_internal_ones(run: Conformance) -> None:
    """28"""
    headers = {"x-first": "first", "x-open-runtimes-secret": "hidden", "X-Mixed-Case": "mixed"}
    seen = json.loads((await run("requestHeaders", headers=headers)).body)
    assert (seen["x-first"], seen["x-mixed-case"]) == ("first", "mixed")
    assert [name for name in seen if name.startswith("x-open-runtimes-")] == ["x-open-runtimes-custom"]


@pytest.mark.parametrize("body", ["Hello 👋", ""])
async def test_body_text(run: Conformance, body: str) -> None:
    """29"""
    is_ok(await run("bodyText", body.encode()), body.encode())


@pytest.mark.parametrize(
    "kind",
    ["application/xhtml+xml", "not-application/json", "application/octet-stream", "audio/mp3", "font/woff", "image/png",
     "video/mp4"],
)  # fmt: skip
async def test_every_other_type_is_text(run: Conformance, kind: str) -> None:
    """30"""
    is_ok(await run("body", "text 👋".encode(), headers={"content-type": kind}), "text 👋".encode())


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
async def test_body_json(run: Conformance, kind: str) -> None:
    """31"""
    is_ok(await run("bodyJson", b'{"key1": "OK", "key2": [1, 2]}', headers={"content-type": kind}),
          b'{"key1":"OK","key2":[1,2]}')  # fmt: skip


@pytest.mark.parametrize("kind", ["application/json", "ApPlIcAtIoN/JSON; charset=utf-8"])
async def test_json_types_are_parsed(run: Conformance, kind: str) -> None:
    """32"""
    is_ok(await run("body", b'{"key": "OK"}', headers={"content-type": kind}), b'{"key":"OK"}')


async def test_an_empty_json_body_is_an_empty_object(run: Conformance) -> None:
    """33"""
    is_ok(await run("body", headers={"content-type": "application/json"}), b"{}")


@pytest.mark.parametrize("body", [bytes(range(8)), bytes([0, 10, 255])])
async def test_body_binary(run: Conformance, body: bytes) -> None:
    """34"""
    is_ok(await run("bodyBinary", body), body)


async def test_environment(run: Conformance) -> None:
    """35"""
    assert json.loads((await run("environment")).body) == {"set": "customValue", "unset": None}


async def test_logs(run: Conformance) -> None:
    """36"""
    result = await run("logs")
    assert result.status_code == 200
    lines = result.logs.splitlines()
    for line in (NOTICE, "Native log", "Native error", "Debug log", "Log+With+Plus+Symbol", "42", "4.2",
                 '{"objectKey":"objectValue"}', '["arrayValue"]'):  # fmt: skip
        assert lines.count(line) == 1, line
    assert "true" in result.logs.lower()
    cut = "... Log truncated due to size limit (8000 characters)"
    assert lines.count("a" * 8000 + cut) == 1
    assert result.errors == f"Error log\n{'e' * 8000}{cut}\n"
    assert lines.index(NOTICE) < lines.index("Native log")


async def test_logging_disabled(run: Conformance) -> None:
    """37"""
    result = await run("logs", logging=False)
    assert (result.status_code, result.logs, result.errors) == (200, "", "")


@pytest.mark.parametrize("body", [b"{broken", b""])
async def test_bad_json_is_an_error(run: Conformance, body: bytes) -> None:
    """41, 42"""
    result = await run("bodyJson", body)
    assert (result.status_code, result.body) == (500, b"")
    assert "JSON" in result.errors


async def test_an_empty_object_is_json(run: Conformance) -> None:
    """43"""
    is_ok(await run("bodyJson", b"{}"), b"{}")


async def test_timeout_keeps_the_logs(run: Conformance) -> None:
    """44: the answer comes at the timeout; what was logged before is there, what came after is not."""
    result = await run("sleep", b"3", timeout_s=0.25)
    assert (result.outcome, result.status_code, result.body) == (Outcome.TIMED_OUT, 500, b"")
    assert (result.logs, result.errors) == ("Timeout start.\n", "Execution timed out.\n")
    assert result.duration_s < 2.5


async def test_time_enough(run: Conformance) -> None:
    """45"""
    result = await run("sleep", b"0.01", timeout_s=5)
    is_ok(result, b"Successful response.")
    assert result.logs == "Timeout start.\nTimeout end.\n"


@pytest.mark.slow
async def test_a_busy_loop_is_ended(run: Conformance) -> None:
    """44 with a loop that gives way to nothing: the same answer, a little later where others might run."""
    result = await run("busy", timeout_s=0.2)
    assert (result.outcome, result.status_code, result.body) == (Outcome.TIMED_OUT, 500, b"")
    assert (result.logs, result.errors) == ("Busy start.\n", "Execution timed out.\n")
    assert result.duration_s < 5
    is_ok(await run("text"), "Hello World 👋".encode())


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "unknown/type"])
async def test_deprecated_send(run: Conformance, kind: str) -> None:
    """47"""
    is_ok(await run("send", b'{"a":1}', headers={"content-type": kind}), b'{"a":1}')


async def test_deprecated_send_of_a_number_and_of_bytes(run: Conformance) -> None:
    """48, 49"""
    is_ok(await run("sendNumber"), b"50")
    is_ok(await run("sendBytes"), bytes([137, 80, 78, 71, 0, 255]))


@pytest.mark.parametrize("which", [1, 2, 3, 4])
async def test_binary_kinds(run: Conformance, which: int) -> None:
    """50"""
    is_ok(await run(f"binary{which}"), bytes([0, which * 10, 255]))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_body_of_17_mb_arrives(run: Conformance, method: str) -> None:
    """51"""
    body = bytes(range(256)) * (17 * MIB // 256)
    result = await run("digest", body, method=method)
    is_ok(result, hashlib.md5(body).hexdigest().encode())
    assert header(result, "x-method") == method


async def test_a_body_of_23_mb_is_refused(run: Conformance) -> None:
    """52"""
    result = await run("digest", bytes(23 * MIB))
    assert (result.status_code, result.body) == (413, b"")
    assert "20971520 bytes" in result.errors


@pytest.mark.parametrize("headers", [{"content-length": "0"}, {"content-length": ""}, {}])
async def test_get_without_body(run: Conformance, headers: dict[str, str]) -> None:
    """53"""
    is_ok(await run("text", method="GET", headers=headers), "Hello World 👋".encode())


async def test_enforced_headers_win(run: Conformance) -> None:
    """54"""
    mine = {"x-custom": "mine", "x-custom-uppercase": "mine", "x-open-runtimes-custom": "100"}
    seen = json.loads((await run("requestHeaders", headers=mine)).body)
    assert (seen["x-custom"], seen["x-custom-uppercase"], seen["x-open-runtimes-custom"]) == ("value", "UPPER", "248")


async def test_several_values_are_one_line(run: Conformance) -> None:
    """56"""
    result = await run("spread")
    assert (result.logs, result.errors) == ("engine: open-runtimes\n", "engine: open-runtimes\n")


async def test_a_list_is_a_repeated_header(run: Conformance) -> None:
    """58"""
    result = await run("cookies")
    assert [value for name, value in result.headers if name == "set-cookie"] == ["a=1; Path=/", "b=2"]
    assert header(result, "other") == "header"


# ------------------------------------------------------------------------------------------- beyond the cases


async def test_bad_headers_never_leave(run: Conformance) -> None:
    """A value with a line break or a name that is none is dropped, with a line that says so."""
    result = await run("badHeaders")
    assert (result.status_code, result.body) == (200, b"OK")
    assert dict(result.headers) == {"fine": "c", "content-type": "text/plain; charset=utf-8"}
    assert result.errors.count("was dropped: it has a forbidden character.") == 2


async def test_headers_are_bounded(run: Conformance) -> None:
    """10,000 headers: a bounded number is kept and an error line says that the rest is not."""
    result = await run("manyHeaders")
    assert len(result.headers) == 500
    assert "Response headers were dropped" in result.errors


@pytest.mark.parametrize(("action", "text"), [("badStatus", "Invalid status code"), ("notAResult", "Return value")])
async def test_a_result_that_is_none_is_an_error(run: Conformance, action: str, text: str) -> None:
    result = await run(action)
    assert (result.status_code, result.body) == (500, b"")
    assert text in result.errors


async def test_global_state_survives_between_executions(run: Conformance) -> None:
    first, second = await run("count"), await run("count")
    assert int(second.body) == int(first.body) + 1
    assert not second.cold


async def test_output_of_child_processes_is_logged(run: Conformance) -> None:
    result = await run("child")
    is_ok(result, b"OK")
    assert result.logs == f"{NOTICE}\nfrom the child\n"


async def test_leaving_the_process_is_told(run: Conformance) -> None:
    """process.exit and sys.exit: the log is kept, the error has the user's stack and the exit code."""
    result = await run("exit")
    assert (result.outcome, result.status_code, result.logs) == (Outcome.CRASHED, 500, "leaving\n")
    assert "conformance" in result.errors.lower() or not run.can("exitStack")
    assert "exited with code 3" in result.errors
    is_ok(await run("text"), "Hello World 👋".encode())


async def test_a_signal_is_told(run: Conformance) -> None:
    result = await run("signal")
    assert (result.outcome, result.status_code) == (Outcome.CRASHED, 500)
    assert result.logs.startswith("falling\n")
    # A Java machine tells itself, and then ends with a code where its signals do not reach a first process.
    told = r"The function's process was ended by SIG(SEGV|ABRT|ILL|TRAP)\.|A fatal error .* SIGSEGV"
    assert re.search(told, result.errors, re.DOTALL)


async def test_executions_at_the_same_time_keep_their_output_apart(run: Conformance) -> None:
    results = await asyncio.gather(*(run("interleave", str(at).encode()) for at in range(8)))
    for at, result in enumerate(results):
        assert set(result.logs.splitlines()) == {NOTICE, f"native {at}", f"own {at}"}
        assert len(re.findall(f"native {at}", result.logs)) == 5


@pytest.mark.slow
async def test_a_flood_of_log_lines_keeps_the_end(run: Conformance) -> None:
    """R8: a million lines; the tail is kept, with the documented first line and length."""
    result = await run("flood", b"1000000", timeout_s=60)
    warning = "[WARNING] Logs truncated. The output exceeded 1000000 characters.\n"
    assert result.logs.startswith(warning)
    assert len(result.logs) == 1_000_000
    assert result.logs.endswith("x" * 79 + "\n")


async def test_a_response_over_the_limit_fails(run: Conformance) -> None:
    """The message names the limit."""
    result = await run("large", str(21 * MIB).encode())
    assert (result.status_code, result.body) == (500, b"")
    assert result.errors == "The response body is larger than the limit of 20971520 bytes.\n"


@pytest.mark.slow
async def test_a_response_of_the_limit_arrives(run: Conformance) -> None:
    result = await run("large", str(20 * MIB).encode())
    assert (result.status_code, len(result.body), result.body[:1]) == (200, 20 * MIB, b"\x07")
