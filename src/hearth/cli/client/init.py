"""`hearth init`: a new function from a starter, and its entry in the project file."""

import gzip
import io
import re
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hearth.build.starters import NoStarter, starter_archive
from hearth.cli.client import output
from hearth.cli.client.problems import NotSetUp, WrongUse
from hearth.cli.client.project import NAMES, Project, read_project
from hearth.data import load
from hearth.model.ids import ID_MAX_CHARS
from hearth.runtimes.packs import Packs


@dataclass(frozen=True, slots=True)
class Starter:
    """What a function made of a starter begins with."""

    entrypoint: str
    commands: str = ""
    ignore: tuple[str, ...] = field(default=(".env",))


STARTERS: Mapping[str, Starter] = {
    "node": Starter("main.js", "", ("node_modules", ".env")),
    "python": Starter("main.py", "", ("__pycache__", ".venv", ".env")),
    "bun": Starter("main.ts", "", ("node_modules", ".env")),
    "deno": Starter("main.ts"),
    "php": Starter("main.php", "", ("vendor", ".env")),
    "ruby": Starter("main.rb", "", ("vendor", ".env")),
    "go": Starter("main.go"),
    "java": Starter("Index.java"),
    "kotlin": Starter("Index.kt"),
    "cpp": Starter("index.cc"),
    "dart": Starter("lib/main.dart", "", (".dart_tool", ".env")),
    "rust": Starter("main.rs", "", ("target", ".env")),
    "static": Starter("index.html"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for; `""` where nothing was."""

    folder: Path
    template: str
    runtime: str = ""
    name: str = ""
    project_id: str = ""
    force: bool = False


def init(wanted: Wanted, packs: Packs, *, as_json: bool) -> int:
    """Write the files of a new function. Raises WrongUse, before anything is written, where something is in the way."""
    template = wanted.template or wanted.runtime.rpartition("-")[0] or "node"
    starter = STARTERS.get(template)
    if starter is None:
        raise WrongUse(f"There is no template {template}. There are: {', '.join(STARTERS)}.")
    runtime = wanted.runtime or newest_runtime(template, packs)
    if runtime.rpartition("-")[0] != template:
        raise WrongUse(f"The template {template} cannot run as {runtime}.")
    folder = wanted.folder.absolute()
    name = wanted.name or folder.name or template
    id = id_of(name)
    found = next((folder / file for file in NAMES if (folder / file).is_file()), None)
    if found is not None:
        project = read_project(found)
        if any(entry.id == id for entry in project.entries()) and not wanted.force:
            raise WrongUse(f"{found} has a function {id} already. Choose another --name, or --force to replace it.")
    else:
        if _holds_something(folder) and not wanted.force:
            raise WrongUse(
                f"{folder} is not empty. Choose another folder, or --force to put the function there anyway."
            )
        project = Project(folder / NAMES[0], {"projectId": wanted.project_id or "default"})
    code = folder / "functions" / id
    if _holds_something(code) and not wanted.force:
        raise WrongUse(f"{code} is not empty. Choose another --name, or --force to replace its files.")
    files = _write(template, code)
    project.put(entry_of(id, name, runtime, starter))
    project.save()
    if as_json:
        output.document(
            {"functionId": id, "runtime": runtime, "path": str(code), "files": files, "file": str(project.path)}
        )
    else:
        shown = shlex.quote(str(wanted.folder))
        output.say(f"{code}: {', '.join(files)}")
        output.say(f"Try it: hearth dev {shown if found is None else shlex.quote(str(code))}")
        output.say(f"Deploy it: cd {shown}; hearth push {id}")
    return 0


def entry_of(id: str, name: str, runtime: str, starter: Starter) -> dict[str, Any]:
    """The function's object in the project file, as the reference's command line writes it."""
    return {
        "$id": id,
        "name": name,
        "runtime": runtime,
        "specification": "s-1vcpu-512mb",
        "execute": ["any"],
        "events": [],
        "scopes": [],
        "schedule": "",
        "timeout": 15,
        "enabled": True,
        "logging": True,
        "entrypoint": starter.entrypoint,
        "commands": starter.commands,
        "ignore": list(starter.ignore),
        "path": f"functions/{id}",
    }


def newest_runtime(family: str, packs: Packs) -> str:
    """The newest runtime of a language that can run here, else the newest there is. Raises NotSetUp for none."""
    rows = [row for row in load("runtimes.json")["runtimes"] if row["key"] == family]
    here = {pack.id for pack in packs.all()}
    rows = [row for row in rows if row["id"] in here] or rows
    if not rows:
        raise NotSetUp(f"There is no runtime of {family}.")
    newest = max(rows, key=lambda row: [int(part) for part in re.findall(r"\d+", str(row["version"]))])
    return str(newest["id"])


def id_of(name: str) -> str:
    """The id a name makes. Raises WrongUse if nothing of it can be in an id."""
    id = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:ID_MAX_CHARS].rstrip("-")
    if not id:
        raise WrongUse(f"No id can be made of the name {name!r}: it has no letter or digit of a-z and 0-9.")
    return id


def _write(template: str, folder: Path) -> list[str]:
    try:
        archive = starter_archive(template)
    except NoStarter as error:
        raise NotSetUp(str(error)) from error
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
                names.append(member.name)
    return names


def _holds_something(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
