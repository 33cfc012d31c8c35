"""Which runtime a folder of code is for, by the names of its files. Pure; what is in the files is not looked at."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Detected:
    """A guess: the runtime's key (`node`, not `node-22`), the file to begin with, and the commands of the build."""

    key: str
    entrypoint: str
    commands: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """`marks` are files that only this runtime has, with the commands they ask for; the first one found counts."""

    key: str
    marks: tuple[tuple[str, str], ...]
    suffix: str
    entrypoints: tuple[str, ...]


#: In order: what is more special comes first, because a project for Bun or Deno often has a package.json as well.
_KINDS = (
    _Kind(
        "deno",
        (("deno.json", ""), ("deno.jsonc", ""), ("deno.lock", "")),
        ".ts",
        ("main.ts", "src/main.ts", "mod.ts", "src/mod.ts", "main.js"),
    ),
    _Kind(
        "bun",
        (("bun.lockb", "bun install"), ("bun.lock", "bun install"), ("bunfig.toml", "bun install")),
        ".ts",
        ("src/main.ts", "main.ts", "index.ts", "src/index.ts", "src/main.js", "main.js", "index.js"),
    ),
    _Kind(
        "node",
        (
            ("package-lock.json", "npm ci"),
            ("pnpm-lock.yaml", "npm install -g pnpm && pnpm install"),
            ("yarn.lock", "yarn install"),
            ("package.json", "npm install"),
        ),
        ".js",
        ("src/main.js", "main.js", "index.js", "src/index.js", "src/main.mjs", "main.mjs", "src/main.ts", "main.ts"),
    ),
    _Kind(
        "python",
        (
            ("requirements.txt", "pip install -r requirements.txt"),
            ("pyproject.toml", "pip install ."),
            ("Pipfile", "pip install pipenv && pipenv install --system"),
            ("setup.py", "pip install ."),
        ),
        ".py",
        ("src/main.py", "main.py", "app.py", "src/app.py", "function.py", "handler.py"),
    ),
    _Kind(
        "php",
        (("composer.json", "composer install"), ("composer.lock", "composer install")),
        ".php",
        ("src/index.php", "index.php", "src/main.php", "main.php"),
    ),
    _Kind(
        "ruby",
        (("Gemfile", "bundle install"), ("Gemfile.lock", "bundle install")),
        ".rb",
        ("lib/main.rb", "main.rb", "src/main.rb", "app.rb"),
    ),
    _Kind("go", (("go.mod", ""), ("go.sum", "")), ".go", ("main.go", "src/main.go")),
    _Kind("java", (("Index.java", ""),), ".java", ("Index.java", "src/Index.java")),
    _Kind("kotlin", (("Index.kt", ""),), ".kt", ("Index.kt", "src/Index.kt")),
    _Kind("rust", (("Cargo.toml", ""), ("Cargo.lock", "")), ".rs", ("main.rs", "src/main.rs", "src/lib.rs")),
    _Kind("cpp", (("index.cc", ""),), ".cc", ("index.cc", "src/index.cc", "main.cc")),
    _Kind("dart", (("pubspec.yaml", "dart pub get"), ("pubspec.lock", "dart pub get")), ".dart", ("lib/main.dart",)),
)


def detect(files: Collection[str]) -> Detected | None:
    """The guess for a folder's files, given by their paths below it with `/`; None if nothing is recognized.

    The `files` of one level below the folder are enough. Without a mark, files of one language alone are one.
    """
    for kind in _KINDS:
        for mark, commands in kind.marks:
            if mark in files:
                return Detected(kind.key, _entrypoint(kind, files), commands)
    spoken = [kind for kind in _KINDS if any(name.endswith(kind.suffix) for name in files)]
    spoken = [kind for kind in spoken if kind.key != "bun"]  # shares its suffix with deno, and is rarer without marks
    if not spoken:
        return None
    first = max(spoken, key=lambda kind: sum(name.endswith(kind.suffix) for name in files))
    return Detected(first.key, _entrypoint(first, files), "")


def _entrypoint(kind: _Kind, files: Collection[str]) -> str:
    known = next((name for name in kind.entrypoints if name in files), "")
    if known:
        return known
    candidates = sorted((name.count("/"), name) for name in files if name.endswith(kind.suffix))
    return candidates[0][1] if candidates else ""
