"""Which commands a function without commands gets."""

import os
from pathlib import Path

import pytest

from hearth.runtimes.shims.build.defaults import default_commands
from hearth.runtimes.shims.build.layout import Layout

PACKAGE = '{"dependencies": {"ms": "2"}}'


def programs(root: Path, *names: str) -> str:
    """A folder of programs, for PATH."""
    folder = root / "bin"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("family", "files", "commands"),
    [
        ("node", ["package.json", "package-lock.json"], "npm ci"),
        ("node", ["package.json", "npm-shrinkwrap.json", "yarn.lock"], "npm ci"),
        ("node", ["package.json", "pnpm-lock.yaml"], "pnpm install --frozen-lockfile"),
        ("node", ["package.json", "yarn.lock"], "yarn install --frozen-lockfile"),
        ("node", ["package.json"], "npm install"),
        ("node", ["package.json", "node_modules"], ""),
        ("node", ["package-lock.json"], ""),
        ("bun", ["package.json", "bun.lock"], "bun install --frozen-lockfile"),
        ("bun", ["package.json", "bun.lockb"], "bun install --frozen-lockfile"),
        ("deno", ["deno.json", "deno.lock"], "deno cache 'my main.ts'"),
        ("php", ["composer.json", "composer.lock"], "composer install --no-dev"),
        ("php", ["composer.json", "composer.lock", "vendor"], ""),
        ("ruby", ["Gemfile", "Gemfile.lock"], "bundle install"),
        ("python", ["requirements.txt", "uv.lock"], "pip install -r requirements.txt"),
        ("python", ["main.py"], ""),
        ("go", ["go.mod", "go.sum"], ""),  # the compiler fetches modules itself
    ],
)
def test_a_lock_file_asks_for_its_install(
    layout: Layout, tmp_path: Path, family: str, files: list[str], commands: str
) -> None:
    for name in files:
        Path(layout.build, name).write_text(PACKAGE if name == "package.json" else "")
    path = programs(tmp_path, "pnpm", "yarn", "bun", "deno", "composer", "bundle")
    found, why = default_commands(layout, family, "my main.ts", path)
    assert found == commands
    assert bool(why) == bool(commands)


@pytest.mark.parametrize(
    ("family", "lock", "commands"), [("node", "pnpm-lock.yaml", "npm install"), ("php", "composer.lock", "")]
)
def test_a_program_that_is_not_there_is_not_asked_for(
    layout: Layout, tmp_path: Path, family: str, lock: str, commands: str
) -> None:
    Path(layout.build, "package.json").write_text(PACKAGE)
    Path(layout.build, lock).write_text("")
    assert default_commands(layout, family, "my main.ts", programs(tmp_path))[0] == commands


LOCK = """
[[package]]
name = "six"
version = "1.17.0"
[[package]]
name = "Typing_Extensions"
version = "4.12.2"
[[package]]
name = "bad name"
version = "1 --index-url x"
"""


@pytest.mark.parametrize("lock", ["uv.lock", "poetry.lock"])
@pytest.mark.parametrize(
    ("project", "wanted"),
    [
        (
            '[project]\ndependencies = ["six>=1", "typing-extensions", "-r /etc/passwd"]\n',
            "six>=1\ntyping-extensions\n",
        ),
        (
            '[tool.poetry.dependencies]\npython = "^3.11"\ntyping-extensions = "^4"\n'
            'six = {version = "*", optional = true}\n',
            "Typing_Extensions==4.12.2\n",
        ),
    ],
)
def test_a_lock_file_of_python_gives_versions_to_pip(layout: Layout, lock: str, project: str, wanted: str) -> None:
    Path(layout.build, lock).write_text(LOCK)
    Path(layout.build, "pyproject.toml").write_text(project)
    commands, why = default_commands(layout, "python", "main.py", os.defpath)
    assert commands == ('pip install -r "$HOME/requirements-of-the-lock.txt" -c "$HOME/constraints-of-the-lock.txt"')
    assert lock in why
    assert Path(layout.home, "requirements-of-the-lock.txt").read_text() == wanted
    assert Path(layout.home, "constraints-of-the-lock.txt").read_text() == "six==1.17.0\nTyping_Extensions==4.12.2\n"


def test_a_lock_file_without_a_project_asks_for_nothing(layout: Layout) -> None:
    Path(layout.build, "uv.lock").write_text("not toml [")
    assert default_commands(layout, "python", "main.py", os.defpath) == ("", "")
