"""The project file, what of a folder is deployed, and which server a command is for."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hearth.cli.client.connection import Given, Target, find_target
from hearth.cli.client.init import id_of
from hearth.cli.client.packing import pack_folder
from hearth.cli.client.problems import NotSetUp, Problem, WrongUse
from hearth.cli.client.project import Project, find_project, require_project
from hearth.cli.client.pull import _quoted, unpack
from hearth.cli.client.push import read_env_file, settings_of, variables_of

FILES = {"main.js": "1", "lib/a.js": "2", "lib/deep/b.log": "3", ".hidden": "4", ".git/config": "5", ".env": "A=1"}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def names(folder: Path, ignore: list[str] | None) -> list[str]:
    into = io.BytesIO()
    pack_folder(folder, ignore, into)
    with tarfile.open(fileobj=io.BytesIO(into.getvalue()), mode="r:gz") as tar:
        return tar.getnames()


def test_the_ignore_list_counts_and_without_one_the_gitignore(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    assert names(tmp_path, ["*.log", ".env"]) == [".hidden", "lib/a.js", "main.js"]
    (tmp_path / ".gitignore").write_text("lib/*\n!lib/a.js\n.env\n")
    assert names(tmp_path, None) == [".gitignore", ".hidden", "lib/a.js", "main.js"]
    assert ".env" in names(tmp_path, []), "an empty list ignores nothing"
    assert not any(name.startswith(".git/") for name in names(tmp_path, []))


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    archives = []
    for number, order in enumerate((list(FILES), list(FILES)[::-1])):
        folder = write(tmp_path / str(number), {name: FILES[name] for name in order})
        os.utime(folder / "main.js", (number, number))
        (folder / "main.js").chmod(0o600 if number else 0o664)
        into = io.BytesIO()
        pack_folder(folder, None, into)
        archives.append(into.getvalue())
    assert archives[0] == archives[1]
    (tmp_path / "1" / "main.js").chmod(0o755)
    into = io.BytesIO()
    pack_folder(tmp_path / "1", None, into)
    assert into.getvalue() != archives[0], "that a file can be executed is part of the code"


def test_links_out_of_the_code_are_left_out_and_told(tmp_path: Path) -> None:
    write(tmp_path, {"code/main.js": "1", "secret": "2"})
    code = tmp_path / "code"
    (code / "out").symlink_to("../secret")
    (code / "in").symlink_to("main.js")
    (code / "folder").symlink_to("..")
    into = io.BytesIO()
    packed = pack_folder(code, None, into)
    assert packed.files == 2
    assert [note.partition(" ")[0] for note in packed.notes] == ["out", "folder"]


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "only.log").write_text("")
    with pytest.raises(Problem, match="no files"):
        pack_folder(tmp_path, ["*.log"], io.BytesIO())
    with pytest.raises(Problem, match="no folder"):
        pack_folder(tmp_path / "nowhere", None, io.BytesIO())


@pytest.mark.parametrize("name", ["appwrite.config.json", "appwrite.json"])
def test_the_project_file_is_found_from_below_by_both_its_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"projectId": "p", "functions": [{"$id": "a", "path": "functions/A b"}]}))
    (tmp_path / "functions").mkdir()
    project = require_project(tmp_path / "functions")
    assert (project.project_id, project.entries()[0].folder) == ("p", tmp_path / "functions" / "A b")
    with pytest.raises(WrongUse, match="It has: a"):
        project.chosen(["b"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "valid JSON"),
        ("[]", "object"),
        ('{"functions": {}}', "list"),
        ('{"functions": [{}]}', r"\$id"),
        ('{"functions": [{"$id": "../x"}]}', r"\$id"),
        ('{"functions": [{"$id": "a", "vars": {}}]}', "vars"),
    ],
)
def test_a_project_file_that_cannot_be_used_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "appwrite.config.json").write_text(text)
    with pytest.raises(NotSetUp, match=says):
        require_project(tmp_path).entries()


def test_what_is_not_known_in_the_project_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "appwrite.config.json"
    path.write_text(json.dumps({"projectId": "p", "sites": [1], "functions": [{"$id": "a", "own": 1, "name": "A"}]}))
    project = require_project(tmp_path)
    project.put({"$id": "a", "name": "B"})
    project.put({"$id": "b"})
    project.save()
    assert json.loads(path.read_text()) == {
        "projectId": "p",
        "sites": [1],
        "functions": [{"$id": "a", "own": 1, "name": "B"}, {"$id": "b"}],
    }
    assert [it.name for it in tmp_path.iterdir()] == [path.name]


def test_an_update_keeps_what_the_file_does_not_say() -> None:
    """A PUT puts what it is not sent back to its default (contract: functions-api 5.5)."""
    existing = {"name": "A", "timeout": 60, "events": ["e"], "installationId": "i", "buildSpecification": "s", "x": 1}
    entry = Project(Path("/p/appwrite.json"), {"functions": [{"$id": "a", "timeout": 5, "x": 2}]}).entries()[0]
    assert settings_of(entry, existing) == {
        "name": "A", "timeout": 5, "events": ["e"], "installationId": "i", "buildSpecification": "s",
    }  # fmt: skip
    assert settings_of(entry, None) == {"name": "a", "timeout": 5}
    older = Project(Path("/p/appwrite.json"), {"functions": [{"$id": "a", "specification": "t"}]}).entries()[0]
    assert settings_of(older, existing)["specification"] == "t"
    assert "buildSpecification" not in settings_of(older, existing)


def test_variables_come_from_the_env_file_and_the_entry(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / ".env").write_text("# note\nexport A='x # y'\nB=\"1\\n2\"\nC=${A} # no\n\nD=\nE=old\n")
    document = {"functions": [{"$id": "f", "path": "f", "vars": [{"key": "E", "value": "new"}]}]}
    entry = Project(tmp_path / "appwrite.json", document).entries()[0]
    assert variables_of(entry) == {"A": "x # y", "B": "1\n2", "C": "${A}", "D": "", "E": "new"}


VALUES = ["", "plain", "two words", "a#b", "it's", "a\nb", 'say "x"', "back\\slash", "it's \"b\\\n", "${A}"]


@pytest.mark.parametrize("value", VALUES)
def test_a_variable_that_is_pulled_is_read_back_as_it_was(tmp_path: Path, value: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"A={_quoted(value)}\n")
    assert read_env_file(path) == {"A": value}


CREDENTIALS = {"endpoint": "http://127.0.0.1:8080/v1", "projectId": "local", "apiKey": "k"}


def target(tmp_path: Path, document: dict[str, Any], environment: dict[str, str], **given: str) -> Target:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "credentials.json").write_text(json.dumps(CREDENTIALS))
    return find_target(Given(**given), environment, Project(tmp_path / "appwrite.json", document), tmp_path)


def test_flag_then_environment_then_file_then_credentials(tmp_path: Path) -> None:
    assert target(tmp_path, {}, {}) == Target("http://127.0.0.1:8080/v1", "local", "k")
    document = {"projectId": "file", "endpoint": "http://localhost:8080/v1/"}
    assert target(tmp_path, document, {}) == Target("http://localhost:8080/v1", "file", "k")
    environment = {"HEARTH_PROJECT": "env", "HEARTH_KEY": "e", "HEARTH_ENDPOINT": "https://a.example"}
    assert target(tmp_path, document, environment) == Target("https://a.example/v1", "env", "e")
    given = {"project": "flag", "key": "f", "endpoint": "b.example:81"}
    assert target(tmp_path, document, environment, **given) == Target("http://b.example:81/v1", "flag", "f")


def test_the_key_of_this_machine_is_not_sent_to_an_address_out_of_a_project_file(tmp_path: Path) -> None:
    for endpoint in ("https://evil.example/v1", "http://127.0.0.1:9/v1"):
        with pytest.raises(NotSetUp, match="no API key"):
            target(tmp_path, {"endpoint": endpoint}, {})


def archive(member: tarfile.TarInfo, data: bytes = b"") -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return io.BytesIO(gzip.compress(out.getvalue()))


def test_code_that_is_pulled_cannot_leave_its_folder(tmp_path: Path) -> None:
    for name in ("../x", "/x", "a/../../x"):
        with pytest.raises(Problem, match="leads out"):
            unpack(archive(tarfile.TarInfo(name), b"1"), tmp_path)
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    assert unpack(archive(link), tmp_path) == []
    with pytest.raises(Problem, match="cannot be unpacked"):
        unpack(io.BytesIO(b"no archive"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_made_of_a_name() -> None:
    assert id_of("Über my Function!") == "ber-my-function"
    assert len(id_of("x" * 50)) == 36
    with pytest.raises(WrongUse):
        id_of("...")


def test_no_project_file_is_none(tmp_path: Path) -> None:
    assert find_project(tmp_path) is None
