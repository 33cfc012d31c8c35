"""The program that unpacks archives of somebody else's making: what it takes, what it refuses, and how it says so.

Run as it is run in its sandbox, but as a plain process on a scratch folder with canary files beside it.
"""

import gzip
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hearth.runtimes.locations import SHIMS_FOLDER

PROGRAM = SHIMS_FOLDER / "extract" / "extract.py"


@dataclass
class Extraction:
    """What came of one run: exit code, last line, and the tree."""

    code: int
    line: str
    target: Path

    def tree(self) -> dict[str, str]:
        """Every name below the target with its kind, mode and content."""
        found: dict[str, str] = {}
        for path in sorted(self.target.rglob("*")):
            name = str(path.relative_to(self.target))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            else:
                mode = stat.S_IMODE(path.stat().st_mode)
                found[name] = f"{mode:o}" if path.is_dir() else f"{mode:o} {path.read_text()}"
        return found


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., Extraction]:
    (tmp_path / "canary").write_text("untouched")

    def run(archive: bytes, max_bytes: int = 10_000_000, max_entries: int = 1000) -> Extraction:
        (tmp_path / "archive").write_bytes(archive)
        target = tmp_path / "target"
        target.mkdir()
        descriptor = os.open(tmp_path / "archive", os.O_RDONLY)
        command = ["/usr/bin/python3", "-I", "-S", str(PROGRAM), str(descriptor), str(target)]
        command += ["--max-bytes", str(max_bytes), "--max-entries", str(max_entries)]
        try:
            done = subprocess.run(command, pass_fds=[descriptor], capture_output=True, text=True, timeout=30)
        finally:
            os.close(descriptor)
        assert done.stderr == ""
        assert done.stdout.count("\n") == 1
        assert (tmp_path / "canary").read_text() == "untouched"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "canary", "target"]
        return Extraction(done.returncode, done.stdout.rstrip("\n"), target)

    return run


def entry(name: str, content: str = "", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    data = content.encode()
    info.size = len(data)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=kind, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


GOOD = tar(
    entry("./", type=tarfile.DIRTYPE, mode=0o700),
    entry("./src/main.js", "code", mode=0o600, mtime=1_600_000_000),
    entry("run.sh", "script", mode=0o4750 & 0o777),
    entry("node_modules/.bin", type=tarfile.DIRTYPE, mode=0o2777),
    link("node_modules/.bin/tool", "../tool/cli.js"),
    entry("node_modules/tool/cli.js", "cli", mode=0o755),
    link("same.js", "src/main.js", tarfile.LNKTYPE),
    entry("ä/" + "long" * 40 + "/" + "name" * 40, "deep"),
)
GOOD_TREE = {
    "node_modules": "755",
    "node_modules/.bin": "755",
    "node_modules/.bin/tool": "-> ../tool/cli.js",
    "node_modules/tool": "755",
    "node_modules/tool/cli.js": "755 cli",
    "run.sh": "755 script",
    "same.js": "644 code",
    "src": "755",
    "src/main.js": "644 code",
    "ä": "755",
    "ä/" + "long" * 40: "755",
    "ä/" + "long" * 40 + "/" + "name" * 40: "644 deep",
}


@pytest.mark.parametrize("form", ["plain", "gzip", "two members", "padded", "gzip padded"])
def test_a_good_archive_comes_out_with_plain_modes(extract: Callable[..., Extraction], form: str) -> None:
    data = {
        "plain": GOOD,
        "gzip": gzip.compress(GOOD),
        "two members": gzip.compress(GOOD[:700]) + gzip.compress(GOOD[700:]),
        "padded": GOOD + bytes(5000),
        "gzip padded": gzip.compress(GOOD + bytes(5000)) + bytes(300),
    }[form]
    done = extract(data)
    assert (done.code, done.line) == (0, "ok entries=8 bytes=17")
    assert done.tree() == GOOD_TREE
    assert (done.target / "src/main.js").stat().st_mtime == 1_600_000_000
    assert (done.target / "same.js").samefile(done.target / "src/main.js")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_every_format(extract: Callable[..., Extraction], form: int) -> None:
    name = "a" * 60 + "/" + "b" * 90 if form == tarfile.USTAR_FORMAT else "a" * 120 + "/" + "b" * 120
    done = extract(tar(entry(name, "x"), link("l", name), form=form) if form != tarfile.USTAR_FORMAT
                   else tar(entry(name, "x"), form=form))  # fmt: skip
    assert done.code == 0
    assert done.tree()[name] == "644 x"


def test_the_last_of_two_entries_of_a_name_counts(extract: Callable[..., Extraction]) -> None:
    """As tar does; a hard link made in between keeps the old content."""
    done = extract(tar(entry("a", "old"), link("b", "a", tarfile.LNKTYPE), entry("a", "new")))
    assert done.tree() == {"a": "644 new", "b": "644 old"}


OUT = "Links that lead out of the archive are not allowed."
REFUSED = {
    # B1
    "parent": (tar(entry("../canary", "x")), "../canary: Names with `..` are not allowed."),
    "parent inside": (tar(entry("a/../../canary", "x")), "a/../../canary: Names with `..` are not allowed."),
    "absolute": (tar(entry("/etc/x", "x")), "/etc/x: Absolute names are not allowed."),
    "newline": (tar(entry("a\nb", "x")), "a?b: Control characters in names are not allowed."),
    "escape": (tar(entry("a\x1b[2J", "x")), "a?[2J: Control characters in names are not allowed."),
    "long component": (tar(entry("a" * 256, "x")), "Names of more than 255 bytes are not allowed."),
    "deep": (tar(entry("a/" * 2000 + "b", "x")), "Names of more than 3000 bytes are not allowed."),
    "levels": (tar(entry("a/" * 101 + "b", "x")), "More than 100 levels of folders are not allowed."),
    # B2
    "link to root": (tar(link("l", "/")), f"l: {OUT}"),
    "link to parent": (tar(link("l", "..")), f"l: {OUT}"),
    "link up": (tar(link("a/l", "../../canary")), f"a/l: {OUT}"),
    "link through link": (
        tar(entry("a/b/c/d", "x"), link("a/b/c/up", "../.."), link("l", "a/b/c/up/../../canary")),
        f"l: {OUT}",
    ),
    "file through link": (tar(link("l", ".."), entry("l/canary", "x")), "used for"),
    "file through later link": (tar(entry("l/a", "x"), link("l", "..")), "used for a folder"),
    "link over file": (tar(link("l", "a"), entry("l", "x")), "used for a link"),
    "long link": (tar(link("l", "a/" * 2000)), "The target of the link is not a usable name."),
    "hard link out": (tar(link("l", "../canary", tarfile.LNKTYPE)), "Names with `..` are not allowed."),
    "hard link absolute": (tar(link("l", "/etc/passwd", tarfile.LNKTYPE)), "Absolute names are not allowed."),
    "hard link to nothing": (tar(link("l", "a", tarfile.LNKTYPE)), "A hard link must name a file that comes before"),
    "hard link to link": (tar(link("a", "b"), link("l", "a", tarfile.LNKTYPE)), "A hard link must name a file"),
    "hard link to folder": (
        tar(entry("a", type=tarfile.DIRTYPE), link("l", "a", tarfile.LNKTYPE)),
        "A hard link must name a file",
    ),
    # B3
    "character device": (tar(entry("d", type=tarfile.CHRTYPE)), "d: Device files are not allowed."),
    "block device": (tar(entry("d", type=tarfile.BLKTYPE)), "d: Device files are not allowed."),
    "fifo": (tar(entry("f", type=tarfile.FIFOTYPE)), "f: Named pipes are not allowed."),
    "set-uid": (tar(entry("f", "x", mode=0o4755)), "f: Set-user-id and set-group-id files are not allowed."),
    "set-gid": (tar(entry("f", "x", mode=0o2755)), "f: Set-user-id and set-group-id files are not allowed."),
    "unknown type": (tar(entry("f", type=b"Z")), "f: Entries of type Z are not supported."),
    # B4
    "sparse": (tar(entry("f", "x", pax_headers={"GNU.sparse.major": "1"})), "f: Sparse files are not supported."),
    "old sparse": (tar(entry("f", type=b"S")), "f: Sparse files are not supported."),
    "truncated": (GOOD[:3000], "The archive ends early."),
    "no end": (GOOD[:1024], "The archive ends early."),
    "truncated gzip": (gzip.compress(GOOD)[:-20], "The archive ends in the middle of its compressed data."),
    "wrong gzip checksum": (gzip.compress(GOOD)[:-8] + bytes(8), "The archive is damaged (compressed data)."),
    "two archives": (gzip.compress(GOOD) + gzip.compress(GOOD), "The archive has data after its end."),
    "zip": (b"PK\x03\x04" + bytes(2000), "The archive is not a tar or tar.gz file."),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"\xff" * 2000, "The archive is damaged (compressed data)."),
    "empty": (b"", "The archive is empty."),
    "text": (b"hello", "The archive is not a tar or tar.gz file."),
    "checksum": (GOOD[:512] + b"X" + GOOD[513:], "The archive is damaged (checksum)."),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_bad_archive_is_refused_in_one_sentence(extract: Callable[..., Extraction], name: str) -> None:
    archive, expected = REFUSED[name]
    done = extract(archive)
    assert done.code == 3
    assert expected in done.line
    assert done.line.isprintable()


def test_the_number_of_entries_is_bounded(extract: Callable[..., Extraction]) -> None:
    done = extract(tar(*(entry(f"{at}") for at in range(11))), max_entries=10)
    assert (done.code, done.line) == (3, "The archive has more than 10 entries.")


def test_the_size_is_bounded_before_it_is_written(extract: Callable[..., Extraction]) -> None:
    """B4: the sizes that are stated count, so nothing over the limit reaches the disk."""
    bomb = gzip.compress(tar(entry("a", "x" * 600), entry("b", "x" * 600)))
    done = extract(bomb, max_bytes=1000)
    assert (done.code, done.line) == (3, "The archive unpacks to more than 1000 bytes.")
    assert done.tree() == {"a": "644 " + "x" * 600}


def test_a_stated_size_of_a_pebibyte_is_refused_at_once(extract: Callable[..., Extraction]) -> None:
    huge = tar(entry("a", "x", pax_headers={"size": str(2**50)}))
    assert extract(huge).line == "The archive unpacks to more than 10000000 bytes."


@pytest.mark.slow
def test_a_flood_of_zeros_after_the_end_is_bounded(extract: Callable[..., Extraction]) -> None:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as packed:
        packed.write(GOOD)
        for _ in range(64):
            packed.write(bytes(2**20))
    assert extract(out.getvalue()).line == "The archive unpacks to more than is allowed."
