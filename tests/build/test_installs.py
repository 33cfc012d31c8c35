"""Which commands only install, what decides about it, and what is kept of it."""

import json
import os
from pathlib import Path

import pytest

from hearth.runtimes.shims.build import cache
from hearth.runtimes.shims.build.disk import TooMuch
from hearth.runtimes.shims.build.installs import (
    home_caches,
    install_folders,
    manifests,
    manifests_digest,
    only_installs,
)
from hearth.runtimes.shims.build.layout import Layout

PACKAGE = {"name": "f", "dependencies": {"ms": "^2.1.3"}}
LOCK = '{"lockfileVersion": 3}'


def write(folder: str, **files: str) -> None:
    for name, text in files.items():
        path = Path(folder, name.replace("__", "/").replace("_dot_", ".").replace("_dash_", "-"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def node(layout: Layout, package: dict[str, object], lock: str = LOCK) -> None:
    write(layout.build, package_dot_json=json.dumps(package), package_dash_lock_dot_json=lock)


@pytest.mark.parametrize("commands", ["npm ci", "npm install", " npm  ci --omit=dev --no-audit ", "npm i"])
def test_installs_of_a_plain_node_package(layout: Layout, commands: str) -> None:
    node(layout, PACKAGE)
    assert only_installs(commands, layout.build, "node", {})


@pytest.mark.parametrize(
    "commands",
    [
        *("npm ci && npm run build", "npm ci; ls", "npm run ci", "npm ci extra", "npm install left-pad", "yarn"),
        *("npm ci > log", "npm ci $X", "npm ci `ls`", "npm ci --prefix ../x", "npm ci '", "echo npm ci", ""),
    ],
)
def test_whatever_else_commands_do_is_done_again(layout: Layout, commands: str) -> None:
    node(layout, PACKAGE)
    assert not only_installs(commands, layout.build, "node", {})


@pytest.mark.parametrize(
    "package",
    [
        {**PACKAGE, "scripts": {"postinstall": "node make.js"}},
        {**PACKAGE, "scripts": {"prepare": "tsc"}},
        {**PACKAGE, "workspaces": ["packages/*"]},
        {"dependencies": {"own": "file:own"}},
        {"dependencies": {"own": "./own"}},
        {"dependencies": {"own": "link:own"}},
        [],
    ],
)
def test_an_install_that_looks_at_the_source_is_done_again(layout: Layout, package: object) -> None:
    write(layout.build, package_dot_json=json.dumps(package), package_dash_lock_dot_json=LOCK)
    assert not only_installs("npm ci", layout.build, "node", {})


def test_without_a_lock_file_versions_are_looked_up_again(layout: Layout) -> None:
    write(layout.build, package_dot_json=json.dumps(PACKAGE))
    assert not only_installs("npm install", layout.build, "node", {})


def test_a_lock_file_with_folders_of_the_source_is_no_plain_one(layout: Layout) -> None:
    node(layout, PACKAGE, '{"packages": {"node_modules/own": {"resolved": "own", "link": true}}}')
    assert not only_installs("npm ci", layout.build, "node", {})


REQUIREMENTS = """
# what it needs
requests==2.32.0
flask[async] >= 3, < 4  # the web
tomli==2.0.1 ; python_version < "3.11"
idna==3.7 \\
    --hash=sha256:abc \\
    --hash=sha256:def
--index-url https://example.org/simple
--prefer-binary
"""


def test_a_list_of_requirements(layout: Layout) -> None:
    write(layout.build, requirements_dot_txt=REQUIREMENTS)
    assert only_installs("pip install -r requirements.txt", layout.build, "python", {})
    assert only_installs("python -m pip install -r requirements.txt", layout.build, "python", {})
    assert not only_installs("pip install -r requirements.txt .", layout.build, "python", {})
    assert not only_installs("pip install -r requirements.txt", layout.build, "python", {"PIP_FIND_LINKS": "wheels"})
    assert not only_installs("pip install -r missing.txt", layout.build, "python", {})


@pytest.mark.parametrize(
    "line", ["-e .", "./own", "own @ file:///x", "-r more.txt", "--find-links wheels", "own.whl/", "git+https://x/y"]
)
def test_requirements_that_are_elsewhere(layout: Layout, line: str) -> None:
    write(layout.build, requirements_dot_txt=f"six==1.0\n{line}\n")
    assert not only_installs("pip install -r requirements.txt", layout.build, "python", {})


def test_manifests_are_found_in_the_source_and_not_in_what_is_installed(layout: Layout) -> None:
    node(layout, PACKAGE)
    write(layout.build, app__package_dot_json="{}", node_modules__ms__package_dot_json="{}", main_dot_js="")
    assert list(manifests(layout.build)) == ["app/package.json", "package-lock.json", "package.json"]


def test_the_digest_follows_manifests_and_nothing_else(layout: Layout) -> None:
    assert manifests_digest(layout.build) == ""
    node(layout, PACKAGE)
    first = manifests_digest(layout.build)
    write(layout.build, main_dot_js="changed")
    assert manifests_digest(layout.build) == first
    write(layout.build, _dot_npmrc="registry=https://example.org")
    second = manifests_digest(layout.build)
    write(layout.build, node_modules__own__index_dot_js="brought along")
    assert len({first, second, manifests_digest(layout.build)}) == 3


def test_folders_that_the_source_brings_are_never_kept(layout: Layout) -> None:
    node(layout, PACKAGE)
    assert install_folders(layout, "node") == ["node_modules"]
    write(layout.build, node_modules__own__index_dot_js="brought along")
    assert install_folders(layout, "node") == []


def installed(layout: Layout) -> cache.Installs:
    installs = cache.begin(layout, "node", None)
    write(layout.build, node_modules__ms__index_dot_js="ms")
    Path(layout.build, "node_modules", "link").symlink_to("ms")
    os.utime(Path(layout.build, "node_modules", "ms", "index.js"), (1_000_000, 1_000_000))
    write(layout.home, _dot_npm___cacache__x="download", _dot_npmrc="//r/:_authToken=secret")
    return installs


def kept(layout: Layout, path: Path, **options: bool) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        return cache.keep(installed(layout), descriptor, 1_000_000, complete=options.get("complete", False))
    finally:
        os.close(descriptor)


def restored(layout: Layout, path: Path) -> cache.Installs:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return cache.begin(layout, "node", descriptor)
    finally:
        os.close(descriptor)


def fresh(root: Path) -> Layout:
    layout = Layout(*(str(root / "again" / name) for name in ("build", "home", "registries")))
    for folder in (layout.build, layout.home):
        Path(folder).mkdir(parents=True)
    node(layout, PACKAGE)
    return layout


def test_what_was_kept_comes_back_with_its_times_and_without_credentials(layout: Layout, tmp_path: Path) -> None:
    node(layout, PACKAGE)
    size = kept(layout, tmp_path / "entry")
    assert size == (tmp_path / "entry").stat().st_size > 0
    again = fresh(tmp_path)
    installs = restored(again, tmp_path / "entry")
    assert installs.restored_bytes == size
    assert not installs.complete
    file = Path(again.build, "node_modules", "link", "index.js")
    assert (file.read_text(), file.stat().st_mtime) == ("ms", 1_000_000)
    assert home_caches(again) == [".npm/_cacache"]
    assert not Path(again.home, ".npmrc").exists()


def test_a_complete_install_is_kept_without_caches_and_known_again(layout: Layout, tmp_path: Path) -> None:
    node(layout, PACKAGE)
    kept(layout, tmp_path / "entry", complete=True)
    again = fresh(tmp_path)
    installs = restored(again, tmp_path / "entry")
    assert installs.complete
    assert list(Path(again.home).iterdir()) == []
    assert home_caches(again) == []


def test_an_entry_that_cannot_be_unpacked_leaves_nothing(layout: Layout, tmp_path: Path) -> None:
    node(layout, PACKAGE)
    kept(layout, tmp_path / "entry")
    data = (tmp_path / "entry").read_bytes()
    (tmp_path / "entry").write_bytes(data[:2_000] + b"\xff" * 3_000)
    again = fresh(tmp_path)
    installs = restored(again, tmp_path / "entry")
    assert (installs.restored_bytes, installs.complete) == (0, False)
    assert not Path(again.build, "node_modules").exists()


def test_what_is_too_large_is_not_kept(layout: Layout, tmp_path: Path) -> None:
    node(layout, PACKAGE)
    installs = installed(layout)
    with (tmp_path / "entry").open("wb") as file, pytest.raises(TooMuch):
        cache.keep(installs, file.fileno(), 100, complete=False)


def test_a_change_of_the_source_by_the_commands_is_noticed(layout: Layout) -> None:
    node(layout, PACKAGE)
    installs = cache.begin(layout, "node", None)
    installs.note()
    write(layout.build, node_modules__ms__index_dot_js="ms")
    assert installs.is_source_untouched()
    write(layout.build, package_dash_lock_dot_json='{"lockfileVersion": 4}')
    assert not installs.is_source_untouched()
