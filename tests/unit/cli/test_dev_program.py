"""What `hearth dev` decides to run, and what it refuses with the way out."""

import json
from pathlib import Path

import pytest

from hearth.cli.client.problems import Problem
from hearth.cli.dev.processes import real_path
from hearth.cli.dev.program import choose
from hearth.executor.sandbox.spec import Mount
from hearth.runtimes.catalogue import InstalledPacks
from hearth.runtimes.packs import Level, Pack


def pack(id: str, version: str, root: str = "") -> Pack:
    family = id.rpartition("-")[0]
    return Pack(id, family, version, Level.EXACT, "host", f"/usr/bin/{family}", (), (), root=root)


PACKS = InstalledPacks(
    [
        pack("node-9.0", "9.1.0"),
        pack("node-22", "22.1.0"),
        pack("python-3.11", "3.11.2"),
        pack("php-8.4", "8.4.1", "/root"),
    ]
)


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_the_language_is_found_out_and_its_newest_runtime_taken(tmp_path: Path) -> None:
    program = choose(folder_of(tmp_path, "src/main.js", "package.json"), "", "", PACKS)
    assert (program.pack.id, program.entrypoint, program.commands) == ("node-22", "src/main.js", "")
    (tmp_path / "package.json").write_text('{"dependencies": {"a": "1"}}')
    assert choose(tmp_path, "", "", PACKS).commands == "npm install"
    assert choose(tmp_path, "node-9.0", "other.js", PACKS).pack.id == "node-9.0"
    assert choose(tmp_path, "node-14.5", "", PACKS).pack.id == "node-22", "one that is not here"


def test_a_project_file_says_what_its_function_is(tmp_path: Path) -> None:
    entry = {
        "$id": "f",
        "path": "code",
        "runtime": "python-3.11",
        "entrypoint": "x.py",
        "commands": "make",
        "timeout": 7,
    }
    (tmp_path / "appwrite.json").write_text(json.dumps({"projectId": "p", "functions": [entry]}))
    folder_of(tmp_path, "code/x.py")
    for folder in (tmp_path, tmp_path / "code"):
        program = choose(folder, "", "", PACKS)
        assert (program.id, program.folder, program.entrypoint) == ("f", tmp_path / "code", "x.py")
        assert (program.commands, program.timeout_s, program.project_id) == ("make", 7, "p")


@pytest.mark.parametrize(
    ("files", "runtime", "says"),
    [
        ((), "", "--runtime"),
        (("main.rb",), "", "hearth runtimes list"),
        (("main.go",), "go-1.26", "hearth runtimes list"),
        (("index.php",), "php-8.4", "needs a sandbox"),
        (("notes.txt",), "node-22", "--entrypoint"),
    ],
)
def test_what_cannot_be_run_is_said(tmp_path: Path, files: tuple[str, ...], runtime: str, says: str) -> None:
    with pytest.raises(Problem, match=says):
        choose(folder_of(tmp_path, *files), runtime, "", PACKS)


def test_of_several_functions_one_has_to_be_named(tmp_path: Path) -> None:
    functions = [{"$id": id, "path": id} for id in ("a", "b")]
    (tmp_path / "appwrite.json").write_text(json.dumps({"functions": functions}))
    with pytest.raises(Problem, match="a, b"):
        choose(tmp_path, "", "", PACKS)


def test_paths_inside_become_those_outside() -> None:
    mounts = [Mount("/opt/node", "/usr/local/node"), Mount("/shims", "/usr/local/server/shims")]
    assert real_path("/usr/local/server/shims/x.cjs", mounts) == "/shims/x.cjs"
    assert real_path("/usr/local/node/bin:/usr/local/nodeless:/bin", mounts) == "/opt/node/bin:/usr/local/nodeless:/bin"
