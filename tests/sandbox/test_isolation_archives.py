"""Isolation cases B1-B4 and F8 through the public API: uploads made to get out, to get in, or to fill the disk."""

import gzip
import hashlib
import io
import json
import os
import secrets
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import report
from tests.sandbox.whole import HEALTHY, Platform
from tests.support.api import built, create_function, ok, upload
from tests.support.archives import archive
from tests.support.runtimes import runtime_of

FUNCTION = "archives"
LOOK = """
import os
def main(context):
    os.symlink({!r}, '/tmp/leak')
    try:
        return context.res.text(open('/tmp/leak').read())
    except OSError as problem:
        return context.res.text(type(problem).__name__)
"""


def entry(name: str, content: bytes = b"", type: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> bytes:
    """One member exactly as given, with the headers that long names need."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = type, link, mode, len(content)
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + content + padding


def packed(*entries: bytes) -> bytes:
    return gzip.compress(b"".join(entries) + bytes(2 * tarfile.BLOCKSIZE), 1)


def link(name: str, target: str) -> bytes:
    return entry(name, type=tarfile.SYMTYPE, link=target)


def hard(name: str, target: str) -> bytes:
    return entry(name, type=tarfile.LNKTYPE, link=target)


@pytest.fixture(scope="module")
def function(platform: Platform) -> Platform:
    settings = {"entrypoint": "main.py", "specification": "s-1vcpu-512mb", "buildSpecification": "s-1vcpu-512mb"}
    create_function(platform.client, FUNCTION, runtime_of("python"), **settings)
    return platform


@pytest.fixture
def canary(platform: Platform) -> Iterator[Path]:
    """A folder beside the data folder with one file, which every upload of these tests would like to change."""
    folder = platform.server.data_dir.parent / "canary"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("untouched")
    before = {path: path.stat().st_mtime_ns for path in (folder, folder / "file")}
    yield folder
    assert (folder / "file").read_text() == "untouched"
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert not Path("/etc/x").exists()
    assert Path("/etc/passwd").stat().st_nlink == 1, "no hard link to it"
    platform.assert_healthy()


def all_refused(platform: Platform, archives: dict[str, bytes]) -> dict[str, str]:
    """Upload all, wait for all; each must have failed with a sentence of its own: name -> what was said."""
    ids = {}
    for name, data in archives.items():
        reply = upload(platform.client, FUNCTION, data)
        if reply.status_code < 300:
            ids[name] = ok(reply)["$id"]
        else:
            assert reply.status_code in (400, 413), (name, reply.text)
    said = {}
    for name, id in ids.items():
        deployment = built(platform.client, FUNCTION, id)
        assert deployment["status"] == "failed", name
        said[name] = deployment["buildLogs"].strip().splitlines()[-1][-160:]
        assert len(said[name]) > 30, name
    report.note(f"{len(archives)} uploads refused, e.g. {next(iter(said.values()), '')}", "build")
    return said


def test_B1_names_that_lead_out_or_cannot_be_shown_are_refused(function: Platform, canary: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed(entry("../canary/file", b"x"))))) as control:
        assert control.getnames() == ["../canary/file"], "control: the archive really says so"
    all_refused(
        function,
        {
            "parent": packed(entry("../canary/file", b"x")),
            "absolute": packed(entry("/etc/x", b"x")),
            "parent inside": packed(entry("a/../../canary/file", b"x")),
            "many parents": packed(entry("../" * 40 + "etc/x", b"x")),
            "newline": packed(entry("a\nb", b"x")),
            "escape": packed(entry("a\x1b[2Jb", b"x")),
            "long": packed(entry("n" * 256, b"x")),
            "deep": packed(entry("/".join(["d"] * 2_000), b"x")),
            "levels": packed(entry("/".join(["d"] * 200), b"x")),
        },
    )
    inside = packed(entry("main.py", HEALTHY.encode()), entry("a\\..\\..\\x", b"x"), entry("b\\c", b"x"))
    deployment = built(function.client, FUNCTION, ok(upload(function.client, FUNCTION, inside))["$id"])
    assert deployment["status"] in ("ready", "failed"), "a backslash is a letter here"


def test_B2_links_that_lead_out_are_refused(function: Platform, canary: Path) -> None:
    long = "a/" * 1_000
    all_refused(
        function,
        {
            "root": packed(link("l", "/")),
            "parent": packed(link("l", "..")),
            "file through link": packed(link("l", ".."), entry("l/canary/file", b"x")),
            "chain": packed(link("a", "."), link("a/b", ".."), entry("a/b/c", b"x")),
            "chain of three": packed(link("x", "y"), link("y", "z"), link("z", "../.."), entry("x/file", b"x")),
            "long target": packed(link("l", long + "../" * 1_001 + "etc/passwd")),
            "hard to deeper link": packed(link("d/s", "/etc/passwd"), hard("h", "d/s")),
            "hard absolute": packed(hard("h", "/etc/passwd")),
            "hard parent": packed(hard("h", "../canary/file")),
            "replaced by folder": packed(link("l", "/etc"), entry("l", type=tarfile.DIRTYPE), entry("l/x", b"x")),
            "folder replaced": packed(entry("l", type=tarfile.DIRTYPE), link("l", "/etc"), entry("l/x", b"x")),
        },
    )


def test_B3_special_files_are_refused_or_made_plain(function: Platform, canary: Path) -> None:
    all_refused(
        function,
        {
            "character device": packed(entry("c", type=tarfile.CHRTYPE)),
            "block device": packed(entry("b", type=tarfile.BLKTYPE)),
            "fifo": packed(entry("f", type=tarfile.FIFOTYPE)),
            "set-uid": packed(entry("s", b"x", mode=0o4755)),
            "set-gid": packed(entry("s", b"x", mode=0o2755)),
        },
    )
    look = (
        "import json, os\n"
        "def main(context):\n"
        "    here = os.path.dirname(__file__)\n"
        "    found = {}\n"
        "    for name in ('closed', 'sticky'):\n"
        "        status = os.stat(os.path.join(here, name))\n"
        "        found[name] = [oct(status.st_mode), status.st_uid, os.listxattr(os.path.join(here, name))]\n"
        "    return context.res.json(found)\n"
    )
    members = io.BytesIO()
    with tarfile.open(fileobj=members, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode in (("main.py", 0o644), ("closed", 0), ("sticky", 0o1777)):
            info = tarfile.TarInfo(name)
            data = look.encode()
            info.size, info.mode, info.uid, info.gid, info.uname = len(data), mode, 4_711, 4_711, "root"
            info.pax_headers = {"SCHILY.xattr.user.mine": "x", "LIBARCHIVE.xattr.security.capability": "AQAAAg=="}
            tar.addfile(info, io.BytesIO(data))
    data = gzip.compress(members.getvalue())
    deployment = built(function.client, FUNCTION, ok(upload(function.client, FUNCTION, data))["$id"])
    assert deployment["status"] == "ready", deployment["buildLogs"]
    execution = ok(function.client.post(f"/functions/{FUNCTION}/executions", json={}))
    report.note(execution["responseBody"], "run")
    found = json.loads(execution["responseBody"])
    for mode, uid, attributes in found.values():
        assert int(mode, 8) & 0o7777 in (0o644, 0o755)
        assert uid != 4_711
        assert attributes == []


def test_B4_bombs_and_broken_archives_fail_soon_and_cost_little(function: Platform, canary: Path) -> None:
    zeros = io.BytesIO()
    with gzip.GzipFile(fileobj=zeros, mode="wb", compresslevel=9) as out:
        info = tarfile.TarInfo("zeros")
        info.size = 1 << 30
        out.write(info.tobuf())
        for _ in range(1 << 10):
            out.write(bytes(1 << 20))
        out.write(bytes(1024))
    assert len(zeros.getvalue()) < 2 << 20, "control: a GiB in less than 2 MiB"
    sparse = tarfile.TarInfo("sparse")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)}
    good = archive({"main.py": HEALTHY})
    many = packed(*(entry(f"f{number}") for number in range(100_001)))
    rss = function.resident_kb()
    used = data_bytes(function)
    began = time.monotonic()
    all_refused(
        function,
        {
            "zeros": zeros.getvalue(),
            "entries": many,
            "sparse": gzip.compress(sparse.tobuf(tarfile.PAX_FORMAT) + bytes(1024)),
            "truncated": good[:-20],
            "two members": good + good,
            "checksum": good[:-8] + bytes(8),
            "zip": b"PK\x03\x04" + secrets.token_bytes(500),
            "zstd": b"\x28\xb5\x2f\xfd" + secrets.token_bytes(500),
            "nested": packed(entry("a.tar.gz", packed(entry("b.tar.gz", zeros.getvalue()[: 1 << 20])))),
        },
    )
    took_s = time.monotonic() - began
    grown_kb = function.resident_kb() - rss
    report.note({"all within s": round(took_s, 1), "server grew kB": grown_kb}, "build")
    assert took_s < 3 * 30, "one after the other on a machine that is busy"
    assert grown_kb < 64 * 1024
    assert data_bytes(function) - used < 8 << 20, "what was unpacked is gone; the small sources stay"


def data_bytes(platform: Platform) -> int:
    """Bytes on disk below the data folder's `work` and `cache`."""
    total = 0
    for part in ("work", "cache"):
        for folder, _, files in os.walk(platform.server.data_dir / part):
            total += sum(os.lstat(os.path.join(folder, name)).st_blocks * 512 for name in files)
    return total


def test_F8_a_link_to_the_host_never_leaves_a_build_and_a_download_is_the_uploaded_bytes(
    function: Platform, canary: Path
) -> None:
    assert (canary / "file").resolve().read_text() == "untouched", "control: outside, the path leads to the canary"
    target = str(canary / "file")
    all_refused(function, {"in the source": packed(entry("main.py", HEALTHY.encode()), link("leak", target))})
    ok(
        function.client.put(
            f"/functions/{FUNCTION}",
            json={"name": FUNCTION, "entrypoint": "main.py", "commands": f"ln -s {target} leak"},
        )
    )
    source = archive({"main.py": HEALTHY})
    failed = built(function.client, FUNCTION, ok(upload(function.client, FUNCTION, source))["$id"])
    assert failed["status"] == "failed"
    assert "leak" in failed["buildLogs"]
    look = LOOK.format(target)
    ok(function.client.put(f"/functions/{FUNCTION}", json={"name": FUNCTION, "entrypoint": "main.py", "commands": ""}))
    source = archive({"main.py": look})
    deployment = built(function.client, FUNCTION, ok(upload(function.client, FUNCTION, source))["$id"])
    execution = ok(function.client.post(f"/functions/{FUNCTION}/executions", json={}))
    assert execution["responseBody"] == "FileNotFoundError", "a link made at run time resolves inside"
    download = function.client.get(f"/functions/{FUNCTION}/deployments/{deployment['$id']}/download")
    assert hashlib.sha256(download.content).digest() == hashlib.sha256(source).digest()
    report.note(f"run: {execution['responseBody']}; download: the {len(source)} bytes uploaded", "build")
