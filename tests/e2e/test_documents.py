"""What the readme and the tutorial tell people to type does what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server, running_server

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.network, pytest.mark.clients]

ROOT = Path(__file__).parents[2]
RUN_WAIT_S = 60


def blocks(document: str, *languages: str) -> list[tuple[str, str]]:
    """The fenced code of a document as (language, text), in order."""
    text = (ROOT / document).read_text()
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, code) for language, code in found if language in languages]


def run(argv: list[str], code: str, server: Server, folder: Path) -> str:
    """Run code as a reader would in the checkout, on this test's server and with files in its own folder."""
    for name, target in (("data", server.data_dir), (".venv", Path(sys.prefix))):
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(target)
    code = code.replace("/tmp/greeter", f"{folder}/greeter").replace("http://127.0.0.1:8080/v1", server.endpoint)
    done = subprocess.run([*argv, code], cwd=folder, capture_output=True, text=True, timeout=RUN_WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_function_of_the_readme_greets(tmp_path: Path) -> None:
    (code,) = [code for _, code in blocks("README.md", "sh") if "greeter" in code]
    with running_server() as server:
        output = run(["bash", "-euc"], code, server, tmp_path)
    assert output.strip().splitlines() == ["build: ready", "Hello, Ada!", "greeting Ada"]


def test_the_tutorial_works_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    steps = [step for step in blocks("docs/tutorial.md", "sh", "python") if "make run" not in step[1]]
    write, *rest = [code for language, code in steps if language == "sh"]
    *python, clean_up = [code for language, code in steps if language == "python"]
    with running_server() as server:
        run(["bash", "-euc"], write, server, tmp_path)
        output = run([sys.executable, "-c"], "\n".join(python), server, tmp_path)
        assert 'completed 200 {"message":"Good evening, Ada!","visitors":"1.2 million"}' in output
        assert "greeting Ada" in output
        assert "completed 400 nobody to greet" in output
        for code in rest:
            assert "Good evening, Grace!" in run(["bash", "-euc"], code, server, tmp_path)
        run([sys.executable, "-c"], "\n".join([python[0].split("functions.create(")[0], clean_up]), server, tmp_path)
