"""`hearth dev`: the starters of each language here, changes of the code, the environment file, mistakes, packages."""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hearth.cli.client.init import STARTERS
from tests.support.runtimes import available_runtimes
from tests.support.server import HEARTH, wait_for

pytestmark = [pytest.mark.slow]

WAIT_S = 60.0
PYTHON = """
import os

def main(context):
    context.log('greeting', context.req.path)
    greeting = os.environ.get('GREETING')
    return context.res.json({{'is': '{answer}', 'greeting': greeting, 'headers': context.req.headers}})
"""


class Dev:
    """The command, running on a folder."""

    def __init__(self, url: str, log: Path) -> None:
        self.client = httpx.Client(base_url=url, timeout=WAIT_S, trust_env=False)
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text()

    def says(self, text: str, times: int = 1) -> None:
        wait_for(lambda: self.said.count(text) >= times, WAIT_S, f"{text!r}; it said:\n{self.said[-3000:]}")


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[Dev]:
    """Started and loaded; at the end SIGTERM has to end it with 0, and no process of it is left."""
    with tempfile.TemporaryDirectory() as aside:
        log = Path(aside) / "log"
        environment = {**os.environ, "XDG_CACHE_HOME": f"{aside}/cache", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(HEARTH), "dev", str(folder), "--port", "0", *options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            wait_for(lambda: process.poll() is not None or "Ctrl-C" in log.read_text(), WAIT_S, "the command")
            found = re.search(r"http://\S+/", log.read_text())
            assert found, log.read_text()
            dev = Dev(found[0], log)
            with dev.client:
                wait_for(lambda: "loaded" in dev.said, WAIT_S, f"the code; it said:\n{dev.said}")
                yield dev
        finally:
            process.terminate()
            code = process.wait(WAIT_S)
        assert code == 0, log.read_text()
        there = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert str(folder) not in there


@pytest.mark.parametrize("template", sorted(STARTERS))
def test_the_starter_of_each_language_runs(template: str, tmp_path: Path) -> None:
    runtimes = [id for id in available_runtimes() if id.rpartition("-")[0] == template]
    if not runtimes:
        pytest.skip(f"no {template} runtime is installed on this machine")
    folder = tmp_path / "greeter"
    done = subprocess.run(
        [str(HEARTH), "init", str(folder), "--template", template, "--runtime", runtimes[0]],
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with running(folder) as dev:
        if template == "static":
            assert "<h1>Hello from your site.</h1>" in dev.client.get("/").text
            return
        assert dev.client.get("/").text.startswith("Hello from your function.")
        answer = dev.client.post("/a/b?c=d", content="body").json()
        assert answer == {"method": "POST", "path": "/a/b", "query": {"c": "d"}, "body": "body"}
        dev.says("POST /a/b?c=d 200")


CPP = """
#include "RuntimeContext.h"
#include "words.h"
namespace runtime {{
struct Handler {{
  static RuntimeOutput main(RuntimeContext &context) {{
    return context.res.text(word + "{answer}" + std::getenv("END"));
  }}
}};
}}
"""


def test_compiled_code_is_compiled_with_each_change_and_the_last_that_was_goes_on(tmp_path: Path) -> None:
    if not any(id.startswith("cpp-") for id in available_runtimes()):
        pytest.skip("no C++ runtime is installed on this machine")
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / ".env").write_text("END=!\n")
    (folder / "words.h").write_text('static const std::string word = "the ";\n')
    (folder / "index.cc").write_text(CPP.format(answer="first"))
    with running(folder) as dev:
        assert dev.client.get("/").text == "the first!"
        (folder / "index.cc").write_text(CPP.format(answer='" nothing'))
        dev.says("The code does not compile (exit code 1). The version before it goes on")
        assert "\nindex.cc:7:" in dev.said
        assert dev.client.get("/").text == "the first!"
        (folder / "index.cc").write_text(CPP.format(answer="second"))
        dev.says("loaded in", 2)
        assert dev.client.get("/").text == "the second!"
    assert sorted(path.name for path in folder.iterdir()) == [".env", "index.cc", "words.h"]


def test_code_environment_and_mistakes_are_taken_as_they_change(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "main.py").write_text(PYTHON.format(answer="first"))
    (folder / ".env").write_text("GREETING='good morning'\n")
    with running(folder) as dev:
        answer = dev.client.get("/x?y=z", headers={"x-appwrite-user-id": "forged", "X-Own": "1"}).json()
        assert (answer["is"], answer["greeting"]) == ("first", "good morning")
        headers = answer["headers"]
        assert (headers["x-own"], headers["x-appwrite-trigger"], headers["x-appwrite-user-id"]) == ("1", "http", "")
        dev.says(f"{headers['x-appwrite-execution-id']} log   greeting /x")

        (folder / "main.py").write_text("def main(context)\n    nothing\n")
        dev.says("SyntaxError")
        assert dev.client.get("/").status_code == 503
        (folder / "main.py").write_text("def main(context):\n    raise ValueError('as asked')\n")
        dev.says("loaded in", 2)
        answer = dev.client.get("/")
        assert (answer.status_code, answer.headers["content-type"]) == (500, "text/html; charset=UTF-8")
        dev.says("ValueError: as asked")

        (folder / ".env").write_text("GREETING=late\n")
        dev.says("loaded in", 3)
        (folder / "main.py").write_text(PYTHON.format(answer="second"))
        dev.says("loaded in", 4)
        answer = dev.client.get("/").json()
        assert (answer["is"], answer["greeting"]) == ("second", "late")
    assert not (folder / "__pycache__").exists()


def test_a_request_that_runs_finishes_with_the_code_it_began_with(tmp_path: Path) -> None:
    """It waits for a file that is written after the new code has been loaded."""
    flag = tmp_path / "flag"
    waiting = (
        "import os, time\ndef main(context):\n    context.log('waits')\n"
        f"    for _ in range(1000):\n        if os.path.exists({str(flag)!r}): return context.res.text('old')\n"
        "        time.sleep(0.01)\n    return context.res.text('never')\n"
    )
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "main.py").write_text(waiting)
    with running(folder) as dev:
        answers: list[str] = []
        request = threading.Thread(target=lambda: answers.append(dev.client.get("/").text))
        request.start()
        dev.says("waits")
        (folder / "main.py").write_text("def main(context): return context.res.text('new')\n")
        dev.says("loaded in", 2)
        assert httpx.get(str(dev.client.base_url), trust_env=False).text == "new"
        flag.write_text("")
        request.join(WAIT_S)
        assert answers == ["old"]


def test_the_build_commands_run_first_and_again_with_what_they_depend_on(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "main.js").write_text("module.exports = ({ res }) => res.text(require('./built.json').number);\n")
    (folder / "package.json").write_text("{}")
    commands = 'printf \'{"number":"%s"}\' $(wc -c < package.json) > built.json'
    entry = {"$id": "f", "path": "code", "entrypoint": "main.js", "ignore": ["built.json"], "commands": commands}
    (tmp_path / "appwrite.json").write_text(json.dumps({"functions": [entry]}))
    with running(tmp_path) as dev:
        assert dev.client.get("/").text.strip() == "2"
        (folder / "package.json").write_text("{   }")
        dev.says("loaded in", 2)
        wait_for(lambda: dev.client.get("/").text.strip() == "5", WAIT_S, "the second build")
