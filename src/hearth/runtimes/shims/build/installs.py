"""What install commands of a build read and what they write: the inputs and the content of the build cache.

Manifests (lock files, lists of requirements, configuration of package managers) decide what is installed; what is
installed is in few folders, which depend on the language.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping

from .layout import Layout

#: Files that package managers read, wherever they are in the source (below the folders they install into excepted).
MANIFESTS = frozenset(
    {
        *("package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc", "yarn.lock", ".yarnrc", ".yarnrc.yml"),
        *("pnpm-lock.yaml", "pnpm-workspace.yaml", "bun.lock", "bun.lockb", "bunfig.toml", ".node-version", ".nvmrc"),
        *("deno.json", "deno.jsonc", "deno.lock", "import_map.json"),
        *("pyproject.toml", "uv.lock", "poetry.lock", "Pipfile", "Pipfile.lock", "pip.conf", "setup.py", "setup.cfg"),
        *("composer.json", "composer.lock", "auth.json", "Gemfile", "Gemfile.lock", "go.mod", "go.sum", "go.work"),
        *("Cargo.toml", "Cargo.lock"),
    }
)
_REQUIREMENTS = re.compile(r"(requirements|constraints).*\.(txt|in)")
#: Folders of the source that hold no manifest of its own.
_FOREIGN = frozenset({"node_modules", "vendor", "runtime-env", "deno-cache", ".git", "__pycache__"})
_MANIFESTS_MAX = 500
_FOLDERS_MAX = 20_000

#: Folders that installs write: at the side of every manifest, and in the root folder only.
_BESIDE = {
    "node": ("node_modules",),
    "bun": ("node_modules",),
    "deno": ("node_modules",),
    "php": ("vendor",),
    "ruby": ("vendor",),
}
_AT_ROOT = {"python": ("runtime-env",), "deno": ("deno-cache",)}
#: Caches of package managers and compilers below HOME. No configuration: that may hold credentials.
_HOME_CACHES = (
    ".npm/_cacache",
    ".cache",
    ".bun-cache",
    ".composer/cache",
    ".bundle/cache",
    "go/pkg/mod",
    ".yarn",
    ".cargo/registry",
)

_INSTALL_SCRIPTS = frozenset(
    {"preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare", "dependencies"}
)
#: Commands that do nothing but install what manifests name, by their first words.
_INSTALLERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "node": (("npm", "ci"), ("npm", "install"), ("npm", "i"), ("npm", "clean-install")),
    "bun": (("bun", "install"), ("bun", "i")),
    "ruby": (("bundle", "install"),),
}
_NODE_LOCKS = ("package-lock.json", "npm-shrinkwrap.json", "bun.lock", "bun.lockb")
#: Options that change nothing about which files an install depends on.
_PLAIN_OPTION = re.compile(r"--[a-z][a-z-]*(=[a-z0-9]+)?")
_REQUIREMENT = re.compile(
    r"""(?x)
    [A-Za-z0-9][A-Za-z0-9._-]* \s* (\[[A-Za-z0-9._,\s-]*\])? \s* ((===?|~=|!=|<=?|>=?)[^;#@]*)? (;[^#]*)?
    (--hash=\S+\s*)* (\#.*)?
    | \#.* | --hash=\S+ (\s\#.*)?
    | (-i|--index-url|--extra-index-url|--trusted-host|--no-binary|--only-binary)[\s=]\S+
    | --(prefer-binary|pre|require-hashes)
    """
)


def manifests(build: str) -> Iterator[str]:
    """The manifests of a source, as sorted paths relative to it. Bounded; links are not followed."""
    found: list[str] = []
    folders = [""]
    seen = 0
    while folders and seen < _FOLDERS_MAX and len(found) < _MANIFESTS_MAX:
        folder = folders.pop()
        seen += 1
        with os.scandir(os.path.join(build, folder)) as items:
            for item in sorted(items, key=lambda item: item.name):
                name = os.path.join(folder, item.name)
                if item.is_dir(follow_symlinks=False):
                    if item.name not in _FOREIGN:
                        folders.append(name)
                elif (item.name in MANIFESTS or _REQUIREMENTS.fullmatch(item.name)) and item.is_file(
                    follow_symlinks=False
                ):
                    found.append(name)
    yield from sorted(found)


def manifests_digest(build: str) -> str:
    """What stands for the manifests of a source, and for what it brings installed itself; `""` without manifests."""
    names = list(manifests(build))
    if not names:
        return ""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{_content_digest(os.path.join(build, name))} {name!a}\n".encode())
    brought = sorted({os.path.join(os.path.dirname(name), folder) for name in names for folder in _FOREIGN})
    digest.update(ascii([name for name in brought if os.path.lexists(os.path.join(build, name))]).encode())
    return digest.hexdigest()


def _content_digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def install_folders(layout: Layout, family: str) -> list[str]:
    """The folders of the build area that installs may write and the source does not bring, relative to it."""
    places = list(_AT_ROOT.get(family, ()))
    beside = _BESIDE.get(family, ())
    folders = {os.path.dirname(name) for name in manifests(layout.build)}
    places += [os.path.join(folder, name) for folder in sorted(folders) for name in beside]
    return [place for place in places if not os.path.lexists(os.path.join(layout.build, place))]


def home_caches(layout: Layout) -> list[str]:
    """The caches of package managers that a build has filled, relative to its home."""
    return [name for name in _HOME_CACHES if _is_folder(os.path.join(layout.home, name))]


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def only_installs(commands: str, build: str, family: str, environment: Mapping[str, str]) -> bool:
    """Whether `commands` do nothing but install what the manifests name, so that a second run would add nothing.

    Careful: False for whatever is not plainly so, such as packages that are folders of the source.
    """
    try:
        words = shlex.split(commands)
    except ValueError:
        return False
    if shlex.join(words) != " ".join(commands.split()):
        return False  # quotes, variables, operators of the shell
    if family == "python":
        return "PIP_FIND_LINKS" not in environment and _only_pip(words, build)
    installer = next((found for found in _INSTALLERS.get(family, ()) if tuple(words[: len(found)]) == found), None)
    if installer is None or not all(_PLAIN_OPTION.fullmatch(word) for word in words[len(installer) :]):
        return False
    return _plain_bundle(build) if family == "ruby" else _plain_node_package(build)


def _only_pip(words: list[str], build: str) -> bool:
    if words[:3] == ["python", "-m", "pip"]:
        words = words[2:]
    if words[:3] not in (["pip", "install", "-r"], ["pip3", "install", "-r"]) or len(words) != 4:
        return False
    text = _text(os.path.join(build, words[3]))
    lines = text.replace("\\\n", " ").splitlines() if text else []
    name = os.path.normpath(words[3])
    return name in set(manifests(build)) and all(_REQUIREMENT.fullmatch(line.strip()) for line in lines if line.strip())


def _plain_bundle(build: str) -> bool:
    """Whether a Gemfile has its lock file and takes no gem from the source itself."""
    local = ("path", "gemspec", "eval_gemfile", "git")
    return os.path.isfile(os.path.join(build, "Gemfile.lock")) and _holds_none(os.path.join(build, "Gemfile"), local)


def _plain_node_package(build: str) -> bool:
    """Whether a package has a lock file, and its install runs no script and takes no folder of its own source."""
    try:
        package = json.loads(_text(os.path.join(build, "package.json")))
    except ValueError:
        return False
    if not isinstance(package, dict) or "workspaces" in package or os.path.exists(os.path.join(build, "binding.gyp")):
        return False
    scripts = package.get("scripts")
    if isinstance(scripts, dict) and _INSTALL_SCRIPTS & scripts.keys():
        return False
    locks = [lock for lock in _NODE_LOCKS if os.path.isfile(os.path.join(build, lock))]
    local = ('"file:', '"link:', '"workspace:', '"link": true', '"./', '"../')
    return bool(locks) and all(
        _holds_none(os.path.join(build, name), local) for name in ("package.json", *locks) if name != "bun.lockb"
    )


def is_off(value: str | None) -> bool:
    """Whether a variable says no."""
    return value is not None and value.strip().lower() in ("off", "0", "false", "no")


def _holds_none(path: str, words: tuple[str, ...]) -> bool:
    text = _text(path)
    return not any(word in text for word in words)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
