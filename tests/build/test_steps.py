"""The steps of a build, run without a sandbox in folders of their own."""

import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hearth.runtimes.shims.build.defaults import default_commands
from hearth.runtimes.shims.build.layout import BuildFailed, Layout
from hearth.runtimes.shims.build.steps import build

NODE_FUNCTION = "module.exports = async ({ res }) => res.text('hi');\n"
PYTHON_FUNCTION = "def main(context):\n    return context.res.text('hi')\n"
HELPER = sys.executable


class Bench:
    """A source folder and a way to build it."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(*(str(root / name) for name in ("build", "home", "registries")))
        for name in ("build", "home"):
            (root / name).mkdir()
        self.source = root / "build"
        self.artifact = root / "artifact"

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.source / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def build(self, **request: Any) -> list[str]:
        full = {
            "family": "node",
            "interpreter": "/usr/bin/node",
            "path": ["/usr/bin"],
            "runtime": "",
            "pack_environment": {},
            "commands": "",
            "entrypoint": "main.js",
            "environment": {},
            "registries": {},
            # Outside of a sandbox the deleted files that others hold open count too, so far more than any test needs.
            "disk_bytes": 8 << 30,
            "output_limit_bytes": 64 << 20,
            "content_bytes": 64 << 20,
            **request,
        }
        descriptor = os.open(self.artifact, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            return build(full, self.layout, descriptor).warnings
        finally:
            os.close(descriptor)

    def names(self) -> list[str]:
        with tarfile.open(self.artifact) as tar:
            return tar.getnames()

    def text(self, name: str) -> str:
        with tarfile.open(self.artifact) as tar:
            file = tar.extractfile(name)
            assert file is not None
            return file.read().decode()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def no_syntax_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting an interpreter only to check syntax is not what these tests are about."""
    monkeypatch.setattr("hearth.runtimes.shims.build.steps.syntax_warning", lambda *_: "")


pytestmark = pytest.mark.usefixtures("no_syntax_check")


def test_a_source_without_commands_becomes_the_artifact_with_its_dot_files(bench: Bench) -> None:
    bench.write(main_dot_js=NODE_FUNCTION, _dot_hidden="x", lib__a_dot_js="1")
    assert bench.build() == []
    assert bench.names() == [".hidden", ".open-runtimes", "lib", "lib/a.js", "main.js"]
    assert "OPEN_RUNTIMES_ENTRYPOINT=main.js\n" in bench.text(".open-runtimes")


def test_the_log_names_each_step_in_the_contracts_words(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    bench.build(commands="echo working")
    log = capfd.readouterr().out
    wanted = [
        "Environment preparation finished.",
        "Build command execution started.",
        "working",
        "Build command execution finished.",
        "Build packaging started.",
        "Build packaging finished.",
        "Build finished.",
    ]
    positions = [log.index(text) for text in wanted]
    assert positions == sorted(positions)
    assert "[open-runtimes]" in _without_colours(log)


def _without_colours(text: str) -> str:
    import re

    return re.sub(r"\x1b\[\d+m", "", text)


def test_an_empty_source_is_refused_in_the_contracts_words(bench: Bench) -> None:
    with pytest.raises(BuildFailed, match=r"^Error: No source code found\. Ensure your source isn't empty\.$"):
        bench.build()


def test_commands_run_in_the_build_area_with_the_users_variables_and_none_of_the_servers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "1")
    bench.write(main_dot_js=NODE_FUNCTION)
    bench.build(commands="env > seen; pwd > where", environment={"MINE": "yes", "HOME_TOO": "a b"})
    seen = dict(line.split("=", 1) for line in bench.text("seen").splitlines())
    assert seen["MINE"] == "yes"
    assert seen["HOME_TOO"] == "a b"
    assert "SECRET_OF_THE_SERVER" not in seen
    assert seen["OPEN_RUNTIMES_ENTRYPOINT"] == "main.js"
    assert seen["HOME"] == bench.layout.home
    assert bench.text("where").strip() == bench.layout.build


def test_standard_input_of_commands_is_empty(bench: Bench) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    bench.build(commands="cat > read; read -r line || echo none > answer")
    assert bench.text("read") == ""
    assert bench.text("answer") == "none\n"


def test_native_modules_are_compiled_with_the_headers_of_the_runtime_if_it_has_them(
    bench: Bench, tmp_path: Path
) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    bench.build(commands="echo $npm_config_nodedir > a", interpreter=str(tmp_path / "n/bin/node"))
    assert bench.text("a") == "\n"
    (tmp_path / "n/include/node").mkdir(parents=True)
    (tmp_path / "n/include/node/node.h").touch()
    bench.build(commands="echo $npm_config_nodedir > a", interpreter=str(tmp_path / "n/bin/node"))
    assert bench.text("a") == f"{tmp_path}/n\n"


def test_npm_of_a_runtime_without_links_to_it_is_on_the_path(bench: Bench, tmp_path: Path) -> None:
    programs = tmp_path / "n/lib/node_modules/npm/bin"
    programs.mkdir(parents=True)
    for name in ("npm", "npx"):
        (programs / f"{name}-cli.js").write_text(f"#!/bin/sh\necho {name} of the runtime\n")
        (programs / f"{name}-cli.js").chmod(0o755)
    bench.write(main_dot_js=NODE_FUNCTION)
    bench.build(commands="(npm; npx) > a", interpreter=str(tmp_path / "n/bin/node"))
    assert bench.text("a") == "npm of the runtime\nnpx of the runtime\n"


def test_a_users_path_cannot_hide_the_runtime(bench: Bench) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    bench.build(commands="echo $PATH > path", environment={"PATH": "/mine"})
    assert bench.text("path").strip() == "/usr/bin:/bin:/mine"


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ("exit 3", "Build failed with exit code 3. The log"),
        ("no-such-program", "Build failed with exit code 127. A program named"),
        ("kill -9 $$", "Build failed with exit code 137. A process was killed"),
    ],
)
def test_failing_commands_fail_the_build_with_their_exit_code(bench: Bench, commands: str, message: str) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    with pytest.raises(BuildFailed) as caught:
        bench.build(commands=commands)
    assert caught.value.message.startswith(message)
    assert caught.value.reason == "exit"


def test_variables_too_large_for_the_system_are_named_as_the_reason(bench: Bench) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    variables = {f"V{number}": "x" * 8_000 for number in range(1_000)}
    with pytest.raises(BuildFailed, match="variables of this build are too large"):
        bench.build(commands="true", environment=variables)


def test_a_build_above_its_disk_limit_fails_and_names_the_setting(bench: Bench) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    with pytest.raises(BuildFailed) as caught:
        bench.build(commands="head -c 3000000 /dev/zero > big", disk_bytes=1 << 20)
    assert caught.value.reason == "disk"
    assert "1 MB of disk space" in caught.value.message
    assert "HEARTH_BUILD_DISK_MB" in caught.value.message


@pytest.mark.slow
def test_a_build_above_its_disk_limit_is_ended_while_it_runs(bench: Bench) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    with pytest.raises(BuildFailed) as caught:
        bench.build(commands="head -c 3000000 /dev/zero > big; sleep 60", disk_bytes=1 << 20)
    assert caught.value.reason == "disk"


@pytest.mark.parametrize("directory", ["missing", "../home", "link", "empty", "main.js"])
def test_an_output_directory_that_is_no_folder_of_the_build_with_something_in_it_is_refused(
    bench: Bench, directory: str
) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    commands = "mkdir empty; ln -s /usr link"
    with pytest.raises(BuildFailed, match="No build output found"):
        bench.build(commands=commands, environment={"OPEN_RUNTIMES_OUTPUT_DIRECTORY": directory})


def test_an_output_directory_becomes_the_whole_artifact(bench: Bench) -> None:
    bench.write(main_dot_js="old")
    bench.build(
        commands="mkdir dist && echo new > dist/main.js",
        environment={"OPEN_RUNTIMES_OUTPUT_DIRECTORY": "./dist"},
    )
    assert bench.names() == [".open-runtimes", "main.js"]
    assert bench.text("main.js") == "new\n"


@pytest.mark.parametrize(
    ("entrypoint", "meant"),
    [
        ("src/main.js", '"main.js"'),
        ("mian.js", '"main.js"'),
        ("Main.js", '"main.js"'),
        ("lib/handler.mjs", '"lib/handler.js"'),
        ("quite-another.js", '"main.js"'),
    ],
)
def test_a_missing_entrypoint_fails_the_build_and_names_what_may_be_meant(
    bench: Bench, entrypoint: str, meant: str
) -> None:
    bench.write(main_dot_js=NODE_FUNCTION, lib__handler_dot_js="1", node_modules__x__main_dot_js="1")
    with pytest.raises(BuildFailed) as caught:
        bench.build(entrypoint=entrypoint, commands=":")
    message = caught.value.message
    assert f'The entrypoint "{entrypoint}" does not exist in the build output.' in message
    assert meant in message.partition("Did you mean")[2]
    assert "node_modules" not in message


@pytest.mark.parametrize("entrypoint", ["../home/main.js", "/etc/passwd", "out.js"])
def test_an_entrypoint_outside_the_output_does_not_exist(bench: Bench, entrypoint: str) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    (Path(bench.layout.home) / "main.js").write_text(NODE_FUNCTION)
    with pytest.raises(BuildFailed, match="does not exist"):
        bench.build(entrypoint=entrypoint, commands="ln -s /etc/passwd out.js")


def test_dependencies_without_commands_are_installed_and_the_log_says_so(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(main_dot_js=NODE_FUNCTION, package_dot_json='{"dependencies": {"x": "1"}}')
    ran: list[str] = []
    monkeypatch.setattr("hearth.runtimes.shims.build.steps.run_commands", lambda commands, *_: ran.append(commands))
    bench.build()
    assert ran == ["npm install"]
    assert "running `npm install`, because package.json lists dependencies" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("files", "family", "commands"),
    [
        ({"package.json": '{"dependencies": {"x": "1"}}', "package-lock.json": "{}"}, "node", "npm ci"),
        ({"package.json": '{"dependencies": {}}'}, "node", ""),
        ({"package.json": '{"devDependencies": {"x": "1"}}'}, "node", ""),
        ({"package.json": "not json"}, "node", ""),
        ({"package.json": '{"dependencies": {"x": "1"}}', "node_modules": None}, "node", ""),
        ({"package.json": '{"dependencies": {"x": "1"}}'}, "python", ""),
        ({"requirements.txt": "x"}, "python", "pip install -r requirements.txt"),
        ({"requirements.txt": "x"}, "node", ""),
    ],
)
def test_default_commands_follow_the_files_that_name_dependencies(
    tmp_path: Path, files: dict[str, str | None], family: str, commands: str
) -> None:
    for name, text in files.items():
        if text is None:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text(text)
    assert default_commands(Layout(str(tmp_path)), family, "main", "/usr/bin")[0] == commands


def test_what_commands_leave_running_is_ended_before_the_output_is_packed(bench: Bench) -> None:
    bench.write(main_dot_js=NODE_FUNCTION)
    bench.build(commands="sleep 61 & echo $! > pid")
    pid = int(bench.text("pid"))
    with pytest.raises(ProcessLookupError):
        _wait_gone(pid)


def _wait_gone(pid: int) -> None:
    """Raise ProcessLookupError as soon as a killed process is gone (its parent here is not us)."""
    import time

    for _ in range(200):
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            raise ProcessLookupError(pid)
        os.kill(pid, 0)
        time.sleep(0.005)


@pytest.fixture
def python(bench: Bench) -> Callable[..., list[str]]:
    """Builds a Python function with this machine's interpreter."""
    bench.write(main_dot_py=PYTHON_FUNCTION)
    interpreter = os.path.realpath(HELPER)

    def run(**request: Any) -> list[str]:
        return bench.build(family="python", interpreter=interpreter, entrypoint="main.py", **request)

    return run


def test_a_python_build_without_commands_has_no_virtual_environment(
    bench: Bench, python: Callable[..., list[str]]
) -> None:
    python()
    assert bench.names() == [".open-runtimes", "main.py"]


def test_an_interpreter_that_does_not_start_is_named_with_its_reason(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\necho first >&2\necho no such library >&2\nexit 127\n")
    broken.chmod(0o755)
    bench.write(main_dot_py=PYTHON_FUNCTION)
    with pytest.raises(BuildFailed, match=r"does not start: no such library\. The operator"):
        bench.build(family="python", interpreter=str(broken), entrypoint="main.py", commands="true")


@pytest.mark.slow
def test_python_and_pip_of_a_build_belong_to_its_virtual_environment(
    bench: Bench, python: Callable[..., list[str]]
) -> None:
    python(
        commands="pip --version > a; python -m pip --version > b;"
        "python -c 'import sys; print(sys.prefix)' > c; pip list --format=freeze > d"
    )
    assert bench.text("c").strip() == f"{bench.layout.build}/runtime-env"
    assert bench.text("a") == bench.text("b")
    assert bench.text("d").partition("==")[0] == "pip"  # and none of the machine's packages
    assert len(bench.text("d").splitlines()) == 1


@pytest.mark.slow
def test_packages_installed_by_pip_are_in_the_artifact_and_pip_and_the_interpreter_are_not(
    bench: Bench, python: Callable[..., list[str]]
) -> None:
    bench.write(
        pkg__pyproject_dot_toml='[build-system]\nrequires=[]\nbuild-backend="back"\nbackend-path=["."]\n',
        pkg__back_dot_py=_BACKEND,
    )
    warnings = python(commands="pip install --no-index ./pkg && python -c 'import tiny'")
    names = bench.names()
    folder = next(name for name in names if name.endswith("/site-packages"))
    assert f"{folder}/tiny.py" in names
    assert not [name for name in names if name.startswith("runtime-env/bin/")]
    assert not [name for name in names if "/pip" in name or name.endswith(".pth")]
    assert warnings == []


_BACKEND = """
import zipfile
def get_requires_for_build_wheel(config_settings=None):
    return []
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("tiny.py", "x = 1\\n")
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name
"""


def test_a_variable_switches_the_default_commands_off(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.write(main_dot_js=NODE_FUNCTION, package_dot_json='{"dependencies": {"not-to-be-found": "1"}}')
    assert bench.build(environment={"HEARTH_BUILD_DEFAULTS": "off"}) == []
    assert "No build commands are set" not in capfd.readouterr().out
