"""What `hearth dev` runs: folder, runtime, entrypoint, commands; named, written in the project file, or detected."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth.cli.client.problems import NotSetUp, WrongUse
from hearth.cli.client.project import Entry, Project, find_project
from hearth.runtimes.families import has_shim
from hearth.runtimes.packs import Pack, Packs

TIMEOUT_S = 15  # contract: functions-api 5.8, default of `timeout`
#: Where a handler is usually found, by family; the first that is there is taken.
_USUAL = {
    "node": ("main.js", "src/main.js", "index.js", "src/index.js", "main.mjs", "src/main.mjs", "main.cjs"),
    "python": ("main.py", "src/main.py"),
    "bun": ("main.ts", "src/main.ts", "index.ts", "src/index.ts"),
    "deno": ("mod.ts", "src/mod.ts", "main.ts", "src/main.ts"),
    "php": ("index.php", "src/index.php", "main.php", "src/main.php"),
    "ruby": ("index.rb", "main.rb", "lib/main.rb"),
    "go": ("main.go", "src/main.go"),
    "java": ("Index.java", "src/Index.java"),
    "cpp": ("index.cc", "src/index.cc"),
    "rust": ("main.rs", "src/main.rs"),
}
#: Install commands where a folder says what it needs and its function names no commands.
_INSTALL = {
    "package.json": {"node": "npm install", "bun": "bun install"},
    "requirements.txt": {"python": "pip install -r requirements.txt"},
    "composer.json": {"php": "composer install"},
    "Gemfile": {"ruby": "bundle install"},
}
#: Files that say what a build brings; a change of one is followed by another build.
MANIFESTS = (
    *("package.json", "package-lock.json", "bun.lock", "requirements.txt", "pyproject.toml", "composer.json"),
    *("composer.lock", "Gemfile", "Gemfile.lock", "deno.json", "deno.lock"),
)


@dataclass(frozen=True, slots=True)
class Program:
    """One function to run. `commands` are run in `folder` before it, `""` = none."""

    id: str
    name: str
    project_id: str
    folder: Path
    pack: Pack
    entrypoint: str
    commands: str
    timeout_s: int
    ignore: tuple[str, ...] | None


def choose(folder: Path, runtime: str, entrypoint: str, packs: Packs) -> Program:
    """Decide what runs. Raises NotSetUp or WrongUse, saying what to name."""
    if not folder.is_dir():
        raise WrongUse(f"There is no folder {folder}.")
    project = find_project(folder)
    entry = _entry(project, folder) if project else None
    raw: Mapping[str, Any] = entry.raw if entry else {}
    folder = (entry.folder if entry else folder).resolve()
    if not folder.is_dir():
        raise NotSetUp(f"There is no folder {folder}: it should hold the code of {entry.id if entry else folder.name}.")
    entrypoint = entrypoint or str(raw.get("entrypoint") or "")
    pack = _pack(runtime or str(raw.get("runtime") or ""), entrypoint, folder, packs)
    entrypoint = entrypoint or _found(folder, pack.family)
    if not entrypoint:
        usual = ", ".join(_USUAL.get(pack.family, ()))
        raise NotSetUp(f"{folder} has none of {usual}. Name the file of the handler with --entrypoint.")
    commands = str(raw.get("commands") or "") or _install(folder, pack.family)
    id = entry.id if entry else folder.name
    return Program(
        id=id,
        name=str(raw.get("name") or id),
        project_id=project.project_id if project else "local",
        folder=folder,
        pack=pack,
        entrypoint=entrypoint,
        commands=commands,
        timeout_s=int(raw.get("timeout") or TIMEOUT_S),
        ignore=tuple(entry.ignore) if entry and entry.ignore is not None else None,
    )


def _entry(project: Project, folder: Path) -> Entry | None:
    """The function of a project file whose folder this is; of the project's own folder its only one."""
    entries = project.entries()
    here = folder.resolve()
    for entry in entries:
        if entry.folder.resolve() == here:
            return entry
    inside = [entry for entry in entries if here.is_relative_to(entry.folder.resolve())]
    if inside:
        return inside[0]
    if here != project.folder.resolve() or not entries:
        return None
    if len(entries) > 1:
        folders = ", ".join(str(entry.raw.get("path") or entry.id) for entry in entries)
        raise WrongUse(f"{project.path} has several functions. Name the folder of one: {folders}.")
    return entries[0]


def _pack(runtime: str, entrypoint: str, folder: Path, packs: Packs) -> Pack:
    """The interpreter: the runtime that is named, or the newest of the language the code is in."""
    if runtime:
        family = runtime.rpartition("-")[0]
        pack = packs.get(runtime) or _newest(family, packs)
    else:
        family = _family(entrypoint, folder)
        pack = _newest(family, packs)
    if has_shim(family) and pack is not None and (pack.root or pack.image):
        raise NotSetUp(f"{runtime or family} needs a sandbox to run; `hearth dev` runs interpreters of this machine.")
    if pack is None:
        raise NotSetUp(
            f"No runtime for {runtime or family or folder} is installed here. `hearth runtimes list` shows "
            "what can be. Name another one with --runtime."
        )
    return pack


def _family(entrypoint: str, folder: Path) -> str:
    if entrypoint:
        suffix = Path(entrypoint).suffix
        kinds = {".js": "node", ".mjs": "node", ".cjs": "node", ".py": "python", ".php": "php", ".rb": "ruby"}
        kinds |= {".go": "go", ".java": "java", ".cc": "cpp", ".cpp": "cpp", ".rs": "rust"}
        typescript = "deno" if (folder / "deno.json").is_file() else "bun"
        return kinds.get(suffix, typescript if suffix == ".ts" else "")
    for family, names in _USUAL.items():
        if family == "bun" and (folder / "deno.json").is_file():
            continue
        if any((folder / name).is_file() for name in names):
            return family
    raise NotSetUp(f"It is not clear what {folder} is written for. Name it with --runtime and --entrypoint.")


def _newest(family: str, packs: Packs) -> Pack | None:
    found = [pack for pack in packs.all() if pack.family == family and not pack.root and not pack.image]
    return max(found, key=lambda pack: [int(part) for part in pack.version.split(".") if part.isdigit()], default=None)


def _found(folder: Path, family: str) -> str:
    return next((name for name in _USUAL.get(family, ()) if (folder / name).is_file()), "")


def _install(folder: Path, family: str) -> str:
    """The usual install command, where a folder names packages and its function no commands."""
    found = next((name for name, by in _INSTALL.items() if family in by and (folder / name).is_file()), "")
    if not found or (found == "package.json" and not _has_dependencies(folder / found)):
        return ""
    return _INSTALL[found][family]


def _has_dependencies(path: Path) -> bool:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True  # the package manager says what is wrong with it
    return not isinstance(document, dict) or bool(document.get("dependencies") or document.get("devDependencies"))
