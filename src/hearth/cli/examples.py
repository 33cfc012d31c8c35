"""The example functions as files: what `examples/` says about each, and its folder as an archive.

The description is `appwrite.config.json` in the reference's own form, so that its command line can push the same
folder. Deploying and running them is `hearth.cli.example_runs`.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

CONFIG_FILE = "appwrite.config.json"
REQUESTS_FILE = "requests.json"
VARIABLES_FILE = ".env"

# What the API calls a function's settings; everything an example may say about its function.
SETTINGS = (
    "name",
    "execute",
    "events",
    "schedule",
    "timeout",
    "enabled",
    "logging",
    "entrypoint",
    "commands",
    "scopes",
)


class BadExample(Exception):
    """An example's description cannot be used; the message says which file and what is wrong."""


@dataclass(frozen=True, slots=True)
class ExampleRequest:
    """The request an example is tried with, and what its answer must be.

    `body_part` is text that the answer's body must contain.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: str
    status: int
    body_part: str


@dataclass(frozen=True, slots=True)
class Example:
    """One function of `examples/`. `settings` has the wire names of `SETTINGS`; `runtime` is the one it wishes for."""

    id: str
    runtime: str
    settings: Mapping[str, Any]
    folder: Path
    ignore: Sequence[str]
    variables: Mapping[str, str]
    request: ExampleRequest

    def archive(self) -> bytes:
        """The folder as the gzipped tar that a deployment takes; equal folders give equal bytes."""
        return pack_folder(self.folder, self.ignore)


def load_examples(examples_dir: Path) -> list[Example]:
    """Read every example described in `examples_dir`, in the order of its file. Raises BadExample."""
    config = _read_json(examples_dir / CONFIG_FILE)
    requests = _read_json(examples_dir / REQUESTS_FILE)
    examples = []
    for entry in config["functions"]:
        id = entry["$id"]
        folder = examples_dir / entry["path"]
        if not folder.is_dir():
            raise BadExample(f"{examples_dir / CONFIG_FILE}: the folder {folder} of {id} does not exist")
        if id not in requests:
            raise BadExample(f"{examples_dir / REQUESTS_FILE}: no request for {id}")
        examples.append(
            Example(
                id=id,
                runtime=entry["runtime"],
                settings={name: entry[name] for name in SETTINGS if name in entry},
                folder=folder,
                ignore=tuple(entry.get("ignore", ())),
                variables=_read_variables(folder / VARIABLES_FILE),
                request=_request(requests[id]),
            )
        )
    return examples


def pack_folder(folder: Path, ignore: Iterable[str] = ()) -> bytes:
    """Make a `.tar.gz` of a folder's regular files, names relative to it.

    `ignore` holds patterns for names at any depth (`node_modules`, `*.pyc`). Times and owners are left out, so that
    the bytes depend on the content alone and a re-upload can be avoided by comparing them.
    """
    patterns = tuple(ignore)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if not path.is_file() or any(fnmatch(part, pattern) for part in relative.parts for pattern in patterns):
                continue
            info = tarfile.TarInfo(relative.as_posix())
            info.size = path.stat().st_size
            info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as file:
                tar.addfile(info, file)
    return gzip.compress(buffer.getvalue(), mtime=0)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadExample(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BadExample(f"{path}: not valid JSON: {error}") from error


def _read_variables(path: Path) -> dict[str, str]:
    """`KEY=value` lines; blank lines and lines starting with `#` do not count. No file means no variables."""
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _request(entry: Mapping[str, Any]) -> ExampleRequest:
    return ExampleRequest(
        method=entry["method"],
        path=entry["path"],
        headers=entry["headers"],
        body=entry["body"],
        status=entry["expect"]["status"],
        body_part=entry["expect"]["body"],
    )
