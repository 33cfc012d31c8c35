"""Bodies of any bytes through a real server into a real function and back, as forms; text for everybody else.

Contract: functions-api 10.4.
"""

import email
import email.policy
import hashlib
import json
import random
from collections.abc import Iterator

import httpx
import pytest

from tests.support.api import create_function, deploy, ok
from tests.support.archives import ENTRYPOINTS
from tests.support.runtimes import runtime_of
from tests.support.server import running_server

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

EVERY_BYTE = bytes(range(256))
BODIES = {
    "every byte": EVERY_BYTE,
    "every pair of neighbours, backwards too": EVERY_BYTE + EVERY_BYTE[::-1],
    "what looks like the end of a part": b"\r\n--\r\n-----------------------------\r\n\r\n--x--\r\n",
    "one NUL": b"\0",
    "more than a field of other forms may have": random.Random(4).randbytes(3_000_000),
}
ECHO = {
    "node": """
const crypto = require('crypto');
module.exports = async ({ req, res }) => {
  const digest = crypto.createHash('sha256').update(req.bodyBinary).digest('hex');
  return res.binary(req.bodyBinary, 202, { 'x-digest': digest, 'x-kind': req.headers['content-type'] ?? '' });
};
""",
    "python": """
import hashlib
def main(context):
    body = context.req.body_binary
    headers = {'x-digest': hashlib.sha256(body).hexdigest(), 'x-kind': context.req.headers.get('content-type', '')}
    return context.res.binary(body, 202, headers)
""",
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A server on which each language has a function of its name that answers with the body it got."""
    with running_server() as server, server.client() as opened:
        for family, source in ECHO.items():
            create_function(opened, family, runtime_of(family), entrypoint=ENTRYPOINTS[family])
            done = deploy(opened, family, {ENTRYPOINTS[family]: source})
            assert done["status"] == "ready", done["buildLogs"]
        yield opened


def form_of(answer: httpx.Response) -> dict[str, bytes]:
    """The parts of a multipart answer by name."""
    assert answer.status_code == 201, answer.text[:500]
    kind = answer.headers["content-type"]
    assert kind.startswith("multipart/form-data; boundary=")
    head = f"content-type: {kind}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    parts = {str(part.get_param("name", header="content-disposition")): part for part in message.iter_parts()}
    return {name: bytes(part.get_payload(decode=True) or b"") for name, part in parts.items()}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("family", ECHO)
def test_bytes_go_in_and_come_back_as_they_are(client: httpx.Client, family: str, body: bytes) -> None:
    fields = {
        "body": (None, body),
        "async": (None, "false"),
        "path": (None, "/a?b=c"),
        "method": (None, "PUT"),
        "headers": (None, json.dumps({"content-type": "image/png"})),
    }
    accept = {"accept": "multipart/form-data"}
    answer = client.post(f"/functions/{family}/executions", files=fields, headers=accept)
    parts = form_of(answer)
    assert parts["responseBody"] == body
    assert (parts["status"], parts["responseStatusCode"]) == (b"completed", b"202")
    headers = {header["name"]: header["value"] for header in json.loads(parts["responseHeaders"])}
    assert headers["x-digest"] == hashlib.sha256(body).hexdigest(), "the function got them as they were sent"
    assert headers["x-kind"] == "image/png"
    stored = ok(client.get(f"/functions/{family}/executions/{parts['$id'].decode()}"))
    assert (stored["requestMethod"], stored["requestPath"], stored["responseBody"]) == ("PUT", "/a?b=c", "")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, multipart/form-data", None])
@pytest.mark.parametrize("family", ECHO)
def test_who_does_not_ask_for_a_form_gets_json(client: httpx.Client, family: str, accept: str | None) -> None:
    """Also when he sends one; bytes that are text stay what they are."""
    text = "".join(map(chr, range(128))) + "äß€😀"
    request = client.build_request("POST", f"/functions/{family}/executions", files={"body": (None, text.encode())})
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    answer = client.send(request)
    assert answer.headers["content-type"].startswith("application/json")
    assert ok(answer)["responseBody"] == text


@pytest.mark.parametrize("family", ECHO)
def test_json_asked_for_and_a_form_wanted_back(client: httpx.Client, family: str) -> None:
    accept = {"accept": "text/html, multipart/form-data"}
    answer = client.post(f"/functions/{family}/executions", json={"body": "äß€"}, headers=accept)
    assert form_of(answer)["responseBody"] == "äß€".encode()


@pytest.mark.parametrize("family", ECHO)
def test_bytes_that_json_cannot_carry_are_refused_and_the_execution_is_kept(client: httpx.Client, family: str) -> None:
    answer = client.post(f"/functions/{family}/executions", files={"body": (None, EVERY_BYTE)})
    assert (answer.status_code, answer.json()["type"]) == (400, "general_unknown")
    assert answer.json()["message"].startswith("Failed to parse response")
    latest = {"queries[0]": json.dumps({"method": "orderDesc", "attribute": "$createdAt", "values": []})}
    kept = ok(client.get(f"/functions/{family}/executions", params=latest))["executions"][0]
    assert kept["$id"] in answer.json()["message"]
    assert (kept["status"], kept["responseStatusCode"]) == ("completed", 202)
