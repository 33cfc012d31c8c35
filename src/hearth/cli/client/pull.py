"""`hearth pull`: functions of a server into the project file, and their code into its folders."""

import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from hearth.cli.client import output
from hearth.cli.client.connection import Connection
from hearth.cli.client.packing import VARIABLES_FILE
from hearth.cli.client.problems import Problem, Refused, WrongUse
from hearth.cli.client.project import NAMES, Project
from hearth.model.ids import is_id

PAGE = 100
FUNCTIONS_MAX = 10_000
#: What an archive may hold, unpacked: nobody's disk is to be filled by a few bytes.
UNPACKED_MAX_BYTES = 4 * 1024**3
_SETTINGS = (
    *("$id", "name", "runtime", "specification", "execute", "events", "scopes", "schedule", "timeout", "enabled"),
    *("logging", "entrypoint", "commands"),
)


def pull(
    connection: Connection,
    project: Project | None,
    ids: Sequence[str],
    *,
    code: bool,
    variables: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Write the functions named, or all, into the project file; their code and `.env` into their folders.

    Files that are there are only replaced with `force`, and never deleted: where that would be needed, Problem is
    raised before a file of that function is written.
    """
    functions = [_named(connection, id) for id in ids] if ids else list(all_functions(connection))
    target = connection.target
    project = project or Project(Path.cwd() / NAMES[0], {"projectId": target.project_id, "endpoint": target.endpoint})
    if not project.project_id:
        project.document["projectId"] = target.project_id
    known = {entry.id: entry.folder for entry in project.entries()}
    pulled = []
    for function in functions:
        id = function["$id"]
        if not is_id(id):
            raise Problem(f"The server names a function {id!r}, which cannot be the name of a folder.")
        folder = known.get(id, project.folder / "functions" / id)
        entry = {name: function[name] for name in _SETTINGS if name in function}
        if id not in known:
            entry["path"] = f"functions/{id}"
        files = _code(connection, function, folder, force) if code else 0
        if variables:
            _variables(function, folder, force)
        project.put(entry)
        project.save()
        pulled.append({"functionId": id, "path": str(folder), "files": files})
        output.say(f"{id}: {f'{files} files in {folder}' if code else 'settings'}")
    if as_json:
        output.document(pulled)
    return 0


def all_functions(connection: Connection) -> Iterator[dict[str, Any]]:
    """Every function of the project, page by page."""
    for offset in range(0, FUNCTIONS_MAX, PAGE):
        queries = ({"method": "limit", "values": [PAGE]}, {"method": "offset", "values": [offset]})
        page = connection.get("/functions", queries)["functions"]
        yield from page
        if len(page) < PAGE:
            return


def unpack(archive: BinaryIO, folder: Path) -> list[str]:
    """Unpack the regular files of a `.tar.gz` into an empty folder; their names.

    Raises Problem for a name that leads out of the folder, too much content, and what is no archive. Links and
    special files are left out: on a developer's machine they could only do harm.
    """
    names, size = [], 0
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for member in tar:
                name = posixpath.normpath(member.name)
                if not member.isreg() or name == ".":
                    continue
                if name.startswith(("/", "../")) or name == ".." or "\0" in name:
                    raise Problem(f"The code holds a file {member.name!r}, which leads out of its folder.")
                size += member.size
                if size > UNPACKED_MAX_BYTES:
                    raise Problem(f"The code is larger than {UNPACKED_MAX_BYTES} bytes when it is unpacked.")
                content = tar.extractfile(member)
                if content is None:
                    continue
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                target.chmod(0o755 if member.mode & 0o100 else 0o644)
                names.append(name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise Problem(f"The code cannot be unpacked: {error}") from error
    return names


def _named(connection: Connection, id: str) -> dict[str, Any]:
    function = connection.find(f"/functions/{id}") if is_id(id) else None
    if function is None:
        raise WrongUse(f"The project has no function {id}.")
    return function


def _code(connection: Connection, function: dict[str, Any], folder: Path, force: bool) -> int:
    """The source of the active deployment, or of the newest, put into a folder; the number of files."""
    id = function["$id"]
    deployment_id = function["deploymentId"] or function["latestDeploymentId"]
    if not deployment_id:
        output.say(f"{id}: nothing has been deployed yet")
        return 0
    try:
        answer = connection.send("GET", f"/functions/{id}/deployments/{deployment_id}/download", again=True)
    except Refused as error:
        if error.status != 404:
            raise
        output.say(f"{id}: the code of deployment {deployment_id} is not there any more")
        return 0
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile() as archive,
        tempfile.TemporaryDirectory(prefix=".pull-", dir=folder.parent) as unpacked,
    ):
        archive.write(answer.content)
        archive.seek(0)
        names = unpack(archive, Path(unpacked))
        changed = [name for name in names if _differs(Path(unpacked) / name, folder / name)]
        present = [name for name in changed if (folder / name).exists()]
        if present and not force:
            shown = ", ".join(present[:5]) + (", ..." if len(present) > 5 else "")
            raise Problem(f"{folder} holds other versions of {shown}. Nothing was changed; --force replaces them.")
        for name in changed:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(folder.resolve()):
                raise Problem(f"{target.parent} is a link that leads out of {folder}.")
            (Path(unpacked) / name).replace(target)
    return len(names)


def _differs(new: Path, old: Path) -> bool:
    return not old.is_file() or old.is_symlink() or old.read_bytes() != new.read_bytes()


def _variables(function: dict[str, Any], folder: Path, force: bool) -> None:
    """The variables as a `.env`; a secret one has no value to write."""
    lines = [
        f"# {it['key']} is secret: its value cannot be read back"
        if it["secret"]
        else f"{it['key']}={_quoted(it['value'])}"
        for it in function["vars"]
    ]
    path = folder / VARIABLES_FILE
    text = "".join(f"{line}\n" for line in lines)
    if path.exists() and not force and path.read_text(encoding="utf-8", errors="replace") != text:
        raise Problem(f"{path} is there already with other content. --force replaces it.")
    folder.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _quoted(value: str) -> str:
    """A value so that dotenv reads it back as it is."""
    if value and all(character.isalnum() or character in "-_./:@%+,=" for character in value) and value.isascii():
        return value
    if not value:
        return ""
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
