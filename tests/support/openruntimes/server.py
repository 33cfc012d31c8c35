"""A server that speaks the HTTP interface of a runtime (contract: runtime-contract 6), for an image of the tests.

Standard library only; a request is a thread. The handler is `main(context)` of the entrypoint, with as much of the
context as tests need.
"""

import contextlib
import importlib.util
import json
import os
import sys
import threading
import traceback
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

LOGS = "/mnt/logs"
CODE = "/usr/local/server/src/function"
INTERNAL = "x-open-runtimes-"
BAD_TIMEOUT = 'Header "x-open-runtimes-timeout" must be an integer greater than 0.'
UNAUTHORIZED = 'Unauthorized. Provide correct "x-open-runtimes-secret" header.'
_loaded = {}


class Logger:
    """The two log files of one request."""

    def __init__(self, switch, id):
        self.id = (id or os.urandom(10).hex()) if (switch or "enabled") == "enabled" else ""
        names = (f"{LOGS}/{self.id}_{kind}.log" for kind in ("logs", "errors"))
        self._files = [Path(name).open("a", buffering=1) for name in names] if self.id else []  # noqa: SIM115

    def log(self, *values):
        self._write(0, values)

    def error(self, *values):
        self._write(1, values)

    def close(self):
        for file in self._files:
            file.close()

    def _write(self, which, values):
        if self._files:
            self._files[which].write(" ".join(map(str, values)) + "\n")


def handler():
    """The user's function, loaded once."""
    entrypoint = os.environ["OPEN_RUNTIMES_ENTRYPOINT"]
    if "main" not in _loaded:
        spec = importlib.util.spec_from_file_location("function", f"{CODE}/{entrypoint}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _loaded["main"] = module.main
    return _loaded["main"]


def output(body=b"", status=200, headers=None):
    body = body.encode() if isinstance(body, str) else body
    return {"body": body, "status": status, "headers": headers or {}}


RES = SimpleNamespace(
    text=output,
    binary=output,
    json=lambda value, status=200, headers=None: output(
        json.dumps(value), status, {"content-type": "application/json", **(headers or {})}
    ),
    empty=lambda: output(status=204),
)


class Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        if self.path == "/__opr/health":
            self.answer(output("OK"))
            return
        timeout = self.headers.get(f"{INTERNAL}timeout", "")
        if timeout and not (timeout.isdigit() and int(timeout) > 0):
            self.answer(output(BAD_TIMEOUT, 500))
            return
        secret = os.environ.get("OPEN_RUNTIMES_SECRET", "")
        if secret and self.headers.get(f"{INTERNAL}secret", "") != secret:
            self.answer(output(UNAUTHORIZED, 500))
            return
        logger = Logger(self.headers.get(f"{INTERNAL}logging"), self.headers.get(f"{INTERNAL}log-id"))
        done = self.run(logger, int(timeout) if timeout else None)
        logger.close()
        self.answer(done, logger.id)

    def run(self, logger, timeout):
        """The handler's output; as the Python server's own, what does not give way is waited for."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items() if not name.lower().startswith(INTERNAL)}
        request = SimpleNamespace(
            body_binary=body, headers=headers, method=self.command, path=path, query_string=query, res=RES
        )
        context = SimpleNamespace(req=request, res=RES, log=logger.log, error=logger.error, raw=self)
        done = []

        def call():
            try:
                done.append(handler()(context))
            except FileNotFoundError:
                logger.error(
                    f"Failed to load entrypoint, file {os.environ['OPEN_RUNTIMES_ENTRYPOINT']} does not exist."
                )
                done.append(output(status=503))
            except BaseException:
                logger.error(traceback.format_exc())
                done.append(output(status=500))

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(timeout)
        if not done:
            logger.error("Execution timed out.")
            return output(status=500)
        if done[0] is None:
            logger.error("Return statement missing. return context.res.empty() if no response is expected.")
            return output(status=500)
        return done[0]

    def answer(self, done, log_id=""):
        self.send_response(done["status"])
        headers = {"content-type": "text/plain; charset=utf-8", **done["headers"]}
        for name, values in headers.items():
            for value in values if isinstance(values, list) else [values]:
                self.send_header(name, value)
        self.send_header(f"{INTERNAL}log-id", urllib.parse.quote(log_id))
        self.send_header("content-length", str(len(done["body"])))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(b"" if self.command == "HEAD" else done["body"])

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = handle_one

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    sys.path.insert(0, CODE)
    server = ThreadingHTTPServer(("0.0.0.0", 3000), Requests)
    print("HTTP server successfully started!", flush=True)
    server.serve_forever()
