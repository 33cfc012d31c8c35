"""The catalogue of runtimes and the interpreters of the host."""

import json
import os
from pathlib import Path

import pytest

from hearth.data import load
from hearth.runtimes.catalogue import Catalogue, InstalledPacks
from hearth.runtimes.host import discover_host_packs
from hearth.runtimes.packs import Level, Pack
from hearth.runtimes.probes import Probes

WIRE_KEYS = {"$id", "key", "name", "version", "base", "image", "logo", "supports"}


@pytest.fixture
def no_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the interpreters of the machine that runs the tests."""
    monkeypatch.setattr("hearth.runtimes.host.SYSTEM_PROGRAMS", tmp_path / "nothing")
    monkeypatch.setattr("hearth.runtimes.host.JAVA_KITS", tmp_path / "nothing")


pytestmark = pytest.mark.usefixtures("no_system")


def pack(id: str, family: str = "node", version: str = "22.9.0", provider: str = "host") -> Pack:
    return Pack(id, family, version, Level.EXACT, provider, "/usr/bin/x", ("/usr/bin/x",), ("/usr/bin",))


def test_the_catalogue_lists_every_known_runtime_in_order_with_the_keys_of_the_wire_model() -> None:
    rows = Catalogue(InstalledPacks(())).all()
    assert [row["$id"] for row in rows] == [row["id"] for row in load("runtimes.json")["runtimes"]]
    assert all(row.keys() == WIRE_KEYS for row in rows)


def test_a_runtime_is_available_only_with_a_pack() -> None:
    catalogue = Catalogue(InstalledPacks([pack("node-22")]))
    assert catalogue.available("node-22")
    assert catalogue.exists("node-24")
    assert not catalogue.available("node-24")
    assert not catalogue.exists("cobol-85")
    assert not catalogue.available("cobol-85")


def test_a_restricted_catalogue_knows_nothing_else() -> None:
    catalogue = Catalogue(InstalledPacks([pack("node-22"), pack("node-24")]), only=["node-22"])
    assert [row["$id"] for row in catalogue.all()] == ["node-22"]
    assert not catalogue.exists("node-24")
    assert not catalogue.available("node-24")


def test_of_two_packs_for_one_runtime_the_first_providers_counts() -> None:
    packs = InstalledPacks([pack("node-22", provider="first"), pack("node-22", provider="second")])
    found = packs.get("node-22")
    assert found is not None
    assert found.provider == "first"
    assert len(packs.all()) == 1


def test_each_row_says_at_what_level_a_runtime_runs_here_or_what_it_needs() -> None:
    rows = {row.id: row for row in Catalogue(InstalledPacks([pack("node-22")])).rows()}
    assert (rows["node-22"].available, rows["node-22"].version, rows["node-22"].level) == (True, "22.9.0", Level.EXACT)
    assert rows["node-22"].reason == ""
    assert rows["node-24"].level is None
    assert rows["node-24"].reason.startswith("`hearth runtimes install node-24` gets 24.")
    assert rows["python-3.12"].reason == ("needs Python 3.12 (program python3.12) in /usr/bin or on the server's PATH")
    assert rows["dotnet-8.0"].reason == "no provider offers .NET yet"


# ------------------------------------------------------------------------------------------------ host


def install_node(folder: Path, version: str, name: str = "node") -> Path:
    """A program that answers as Node.js of that version installed into `folder` does."""
    program = folder / "bin" / name
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "called" >> {folder}/calls\necho "v{version} {program}"\n')
    program.chmod(0o755)
    return program


def install_python(folder: Path, version: str, *, final: bool = True) -> Path:
    """A program that answers as Python of that version installed into `folder` does."""
    series = version.rpartition(".")[0]
    program = folder / "bin" / f"python{series}"
    program.parent.mkdir(parents=True, exist_ok=True)
    (folder / "lib" / f"python{series}").mkdir(parents=True)
    library = f"libpython{series}.so.1.0"
    (folder / "lib" / library).write_text("")
    answer = {
        "version": version,
        "prefix": str(folder),
        "executable": str(program),
        "final": final,
        "ldlibrary": library,
    }
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    return program


def test_a_node_on_the_path_serves_the_runtime_of_its_major_with_mounts_of_its_own(tmp_path: Path) -> None:
    program = install_node(tmp_path / "n", "22.11.3")
    (tmp_path / "n/lib/node_modules/npm/bin").mkdir(parents=True)
    packs = discover_host_packs(search_path=str(program.parent))
    found = packs.get("node-22")
    assert found is not None
    assert (found.version, found.level, found.provider) == ("22.11.3", Level.EXACT, "host")
    assert found.interpreter == "/opt/runtimes/node-22/bin/node"
    assert found.shim == ("/opt/runtimes/node-22/bin/node", "/usr/local/server/shims/node/shim.cjs")
    assert found.mounts == (
        (str(program), "/opt/runtimes/node-22/bin/node"),
        (str(tmp_path / "n/lib/node_modules/npm"), "/opt/runtimes/node-22/lib/node_modules/npm"),
    )
    assert found.path == ("/opt/runtimes/node-22/bin",)


def test_a_python_on_the_path_serves_the_runtime_of_its_major_and_minor(tmp_path: Path) -> None:
    program = install_python(tmp_path / "p", "3.12.7")
    packs = discover_host_packs(search_path=str(program.parent))
    assert [pack.id for pack in packs.all()] == ["python-3.12"]
    found = packs.get("python-3.12")
    assert found is not None
    assert found.shim == (
        "/opt/runtimes/python-3.12/bin/python3.12",
        "-I",
        "-S",
        "/usr/local/server/shims/python/start.py",
    )
    assert found.environment == {"LD_LIBRARY_PATH": "/opt/runtimes/python-3.12/lib"}
    assert [target for _, target in found.mounts] == [
        "/opt/runtimes/python-3.12/bin/python3.12",
        "/opt/runtimes/python-3.12/lib/python3.12",
        "/opt/runtimes/python-3.12/lib/libpython3.12.so.1.0",
    ]


@pytest.mark.parametrize(
    ("version", "id"), [("17.0.15", "java-17.0"), ("1.8.0_392", "java-8.0"), ("25", "java-25"), ("16.0.1", "")]
)
def test_a_java_kit_says_in_a_file_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, id: str
) -> None:
    """Nothing is started, and what has no compiler is none. A kit that sandboxes do not see is of no use."""
    kit = tmp_path / "kits/jdk"
    (kit / "bin").mkdir(parents=True)
    (kit / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    for name in ("java", "javac"):
        (kit / "bin" / name).write_text("#!/bin/false\n")
        (kit / "bin" / name).chmod(0o755)
    monkeypatch.setattr("hearth.runtimes.host.JAVA_KITS", tmp_path / "kits")
    assert discover_host_packs(search_path="").all() == ()
    monkeypatch.setattr("hearth.runtimes.host._SYSTEM", tmp_path)
    monkeypatch.setattr("hearth.runtimes.host._PROBED", {})
    found = discover_host_packs(search_path="").all()
    assert [pack.id for pack in found] == ([id] if id else [])
    assert all(pack.interpreter == str(kit / "bin/java") and "-jar" in pack.shim for pack in found)
    (kit / "bin/javac").unlink()
    monkeypatch.setattr("hearth.runtimes.host._PROBED", {})
    assert discover_host_packs(search_path="").all() == ()


def test_the_first_on_the_path_counts(tmp_path: Path) -> None:
    first, second = install_node(tmp_path / "a", "22.1.0"), install_node(tmp_path / "b", "22.9.0")
    packs = discover_host_packs(search_path=f"{first.parent}:{second.parent}")
    assert [pack.version for pack in packs.all()] == ["22.1.0"]


@pytest.mark.parametrize(
    "answer", ["", "exit 3", "echo v22", "echo 'v22.1.0-nightly /x'", "echo 22.1.0 /x", "exec /nonexistent"]
)
def test_a_program_that_does_not_answer_as_an_interpreter_is_passed_over(tmp_path: Path, answer: str) -> None:
    program = tmp_path / "node"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    assert discover_host_packs(search_path=str(tmp_path)).all() == ()


def test_a_pre_release_of_python_serves_no_runtime(tmp_path: Path) -> None:
    program = install_python(tmp_path / "p", "3.14.0", final=False)
    assert discover_host_packs(search_path=str(program.parent)).all() == ()


def test_an_interpreter_is_asked_once_until_it_changes(tmp_path: Path) -> None:
    program = install_node(tmp_path / "n", "22.1.0")
    for _ in range(3):
        discover_host_packs(search_path=str(program.parent))
    assert (tmp_path / "n/calls").read_text() == "called\n"
    install_node(tmp_path / "n", "24.12.1")
    os.utime(program, (1, 1))
    assert [pack.id for pack in discover_host_packs(search_path=str(program.parent)).all()] == ["node-24"]


def again(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What another process finds on a path, with the answers that are kept in a file."""
    monkeypatch.setattr("hearth.runtimes.host._PROBED", {})
    return [pack.id for pack in discover_host_packs(search_path=str(folder), probes=Probes(file)).all()]


def test_answers_are_kept_for_other_processes_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a version manager's scripts, which decide by files beside them; not of any other script."""
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = tmp_path / "cache/probes.json"
    manager = tmp_path / "manager"
    real = install_node(manager / "versions/22", "22.1.0")
    script = manager / "shims/node"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    script.chmod(0o755)
    for _ in range(3):
        assert again(kept, script.parent, monkeypatch) == ["node-22"]
    assert (manager / "versions/22/calls").read_text() == "called\n"
    (manager / "version").write_text("22")
    assert again(kept, script.parent, monkeypatch) == ["node-22"]
    assert (manager / "versions/22/calls").read_text() == "called\n" * 2
    for _ in range(2):
        assert again(kept, real.parent, monkeypatch) == ["node-22"]
    assert (manager / "versions/22/calls").read_text() == "called\n" * 4
    real.unlink()
    assert again(kept, script.parent, monkeypatch) == []


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 0}', '{"format": 1, "entries": [["a", {"version": 5}]]}']
)
def test_kept_answers_that_cannot_be_read_are_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "probes.json"
    file.write_text(content)
    assert Probes(file).get("a") == (False, None)


def test_kept_answers_that_others_can_write_are_none(tmp_path: Path) -> None:
    file = tmp_path / "probes.json"
    probes = Probes(file)
    probes.put("a", None)
    probes.save()
    assert Probes(file).get("a") == (True, None)
    file.chmod(0o666)
    assert Probes(file).get("a") == (False, None)


def test_names_on_the_path_that_are_one_file_are_asked_once(tmp_path: Path) -> None:
    program = install_node(tmp_path / "n", "22.1.0")
    (program.parent / "nodejs").symlink_to(program)
    discover_host_packs(search_path=str(program.parent))
    assert (tmp_path / "n/calls").read_text() == "called\n"


def test_relative_and_missing_folders_on_the_path_are_no_failure() -> None:
    assert discover_host_packs(search_path=":.:bin:/nonexistent").all() == ()
