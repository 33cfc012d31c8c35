"""The packer: what goes into an artifact, and that equal content gives equal bytes."""

import gzip
import importlib.util
import os
import py_compile
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hearth.runtimes.locations import SHIMS_FOLDER
from hearth.runtimes.shims import zstd
from hearth.runtimes.shims.build import pack as packer
from hearth.runtimes.shims.build.layout import BuildFailed
from hearth.runtimes.shims.build.pack import Packed, pack

LIMIT = 1 << 30


def packed(root: Path, target: Path, limit: int = LIMIT) -> Packed:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        return pack(str(root), descriptor, limit)
    finally:
        os.close(descriptor)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def fill(root: Path, order: int) -> None:
    """The same content, made in two orders, with other times, modes and a umask's leftovers."""
    files = [("b/run.sh", 0o755), ("a.txt", 0o644), ("b/ü.txt", 0o600), ("empty/.keep", 0o644)]
    for number, (name, mode) in enumerate(files[::order]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(mode | (0o022 if order < 0 else 0))
        os.utime(path, (number * order * 1000 + 10**9,) * 2)
    (root / "link").symlink_to("b/run.sh")


def test_equal_content_gives_equal_bytes_whatever_the_order_times_and_modes(tmp_path: Path) -> None:
    for name, order in (("one", 1), ("two", -1)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name, order)
        packed(tmp_path / name, tmp_path / f"{name}.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_entries_are_sorted_with_plain_modes_no_owner_and_no_time(root: Path, tmp_path: Path) -> None:
    fill(root, 1)
    packed(root, tmp_path / "t")
    with tarfile.open(tmp_path / "t") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}
    modes = {member.name: member.mode for member in members if not member.issym()}
    assert modes == {
        "a.txt": 0o644,
        "b": 0o755,
        "b/run.sh": 0o755,
        "b/ü.txt": 0o644,
        "empty": 0o755,
        "empty/.keep": 0o644,
    }


@pytest.mark.slow
def test_a_large_artifact_is_compressed_by_zstandard_and_unpacked_by_the_extract_program(
    root: Path, tmp_path: Path
) -> None:
    noise = random.Random(1).randbytes(300_000)
    (root / "a").write_bytes(noise * 50)
    (root / "b").write_bytes(bytes(9_000_000))
    results = []
    for name in ("one", "two"):
        with (tmp_path / name).open("wb") as file:
            results.append(pack(str(root), file.fileno(), LIMIT, may_zstd=True))
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    assert results[0].compression == "zstd"
    assert results[0].written_bytes == len(data) < 1_000_000
    assert data.startswith(zstd.MAGIC)
    done = extracted(tmp_path / "one", tmp_path / "out")
    assert done.stdout == "ok entries=2 bytes=24000000\n", done.stdout + done.stderr
    assert (tmp_path / "out" / "a").read_bytes() == noise * 50
    for damage, words in ((data[:-9], "ends in the middle"), (data[:5_000] + bytes(50) + data[5_050:], "damaged")):
        (tmp_path / "bad").write_bytes(damage)
        refused = extracted(tmp_path / "bad", tmp_path / f"out-{words[:4]}")
        assert (refused.returncode, words in refused.stdout) == (3, True), refused.stdout + refused.stderr
    assert packed(root, tmp_path / "three").compression == "gzip", "where nobody can read Zstandard"


def test_a_frame_that_wants_much_memory_is_refused() -> None:
    frame = zstd.MAGIC + bytes([0x00, 0x90]) + bytes(20)  # a window of 2^28 bytes
    decompressor = zstd.Decompressor()
    decompressor.feed(frame)
    with pytest.raises(zstd.Damaged):
        decompressor.piece()


def extracted(archive: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """The extract program as sandboxes run it."""
    target.mkdir()
    program = str(SHIMS_FOLDER / "extract" / "extract.py")
    with archive.open("rb") as file:
        number = file.fileno()
        return subprocess.run(
            [
                *("/usr/bin/python3", "-I", "-S", program, str(number), str(target)),
                *("--max-bytes", str(LIMIT), "--max-entries", "100"),
            ],
            pass_fds=[number],
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.mark.parametrize(("size", "compressed"), [(4_999_999, False), (5_000_000, True)])
def test_an_artifact_is_compressed_from_5_mb_on(root: Path, tmp_path: Path, size: int, compressed: bool) -> None:
    (root / "zeros").write_bytes(bytes(size))
    result = packed(root, tmp_path / "t")
    data = (tmp_path / "t").read_bytes()
    assert result.compression == ("gzip" if compressed else "")
    assert result.written_bytes == len(data)
    assert (data[:2] == b"\x1f\x8b") is compressed
    if compressed:
        assert data[4:8] == bytes(4)  # no time in the gzip header
        data = gzip.decompress(data)
    assert len(data) % 512 == 0
    with tarfile.open(tmp_path / "t") as tar:
        assert tar.getmember("zeros").size == size


def test_an_artifact_above_the_limit_is_refused_in_the_contracts_words(root: Path, tmp_path: Path) -> None:
    (root / "file").write_bytes(os.urandom(1_500_000))
    with pytest.raises(BuildFailed, match=r"^Build size should be less than 1\.00 MBs\."):
        packed(root, tmp_path / "t", 1_000_000)
    assert (tmp_path / "t").stat().st_size <= 1_000_000


def test_content_above_its_limit_is_refused_before_anything_is_written(root: Path, tmp_path: Path) -> None:
    """Sparse files cost no disk, but packing and unpacking them does."""
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    descriptor = os.open(tmp_path / "t", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(BuildFailed, match="holds 1,099,512 MB of files, more than a function may: 4 MB"):
        pack(str(root), descriptor, LIMIT, content_bytes=4_000_000)
    os.close(descriptor)
    assert (tmp_path / "t").stat().st_size == 0


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside", "up", "..", "/"])
def test_a_link_that_leaves_the_output_is_refused_by_name(root: Path, tmp_path: Path, target: str) -> None:
    (root / "a").mkdir()
    (root / "up").symlink_to("..")
    (root / "zz").symlink_to(target)
    if target != "up":
        (root / "up").unlink()
    with pytest.raises(BuildFailed, match="outside the output"):
        packed(root, tmp_path / "t")


def test_links_inside_the_output_are_kept_and_absolute_ones_made_relative(root: Path, tmp_path: Path) -> None:
    (root / "node_modules/.bin").mkdir(parents=True)
    (root / "node_modules/x.js").write_text("1")
    (root / "node_modules/.bin/x").symlink_to("../x.js")
    (root / "absolute").symlink_to(root / "node_modules/x.js")
    (root / "dangling").symlink_to("not-there")
    packed(root, tmp_path / "t")
    with tarfile.open(tmp_path / "t") as tar:
        links = {member.name: member.linkname for member in tar.getmembers() if member.issym()}
    assert links == {
        "node_modules/.bin/x": "../x.js",
        "absolute": "node_modules/x.js",
        "dangling": "not-there",
    }


def test_the_interpreter_of_a_virtual_environment_is_left_out(root: Path, tmp_path: Path) -> None:
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    (root / ".venv/bin/python").symlink_to("/usr/bin/python3")
    result = packed(root, tmp_path / "t")
    with tarfile.open(tmp_path / "t") as tar:
        assert ".venv/bin/python" not in tar.getnames()
    assert result.left_out == [".venv/bin/python (interpreter of a virtual environment)"]


def test_what_is_neither_file_folder_nor_link_is_left_out_and_said(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "a").write_text("1")
    assert packed(root, tmp_path / "t").left_out == ["pipe (neither file, folder nor link)"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\x7fb", "/".join(["d"] * 101), "/".join(["d" * 200] * 16)])
def test_names_that_no_execution_could_unpack_fail_the_build(root: Path, tmp_path: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("1")
    with pytest.raises(BuildFailed, match="cannot be packed"):
        packed(root, tmp_path / "t")


def test_too_many_entries_are_refused(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer, "MAX_ENTRIES", 10)
    for number in range(11):
        (root / str(number)).write_text("")
    with pytest.raises(BuildFailed, match="more than 10 files"):
        packed(root, tmp_path / "t")


def test_long_and_odd_names_come_out_as_they_went_in(root: Path, tmp_path: Path) -> None:
    names = [b"d" * 200 + b"/" + b"f" * 255, "fä\\ ü".encode(), b"\xff\xfe.bin"]
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    packed(root, tmp_path / "t")
    with tarfile.open(tmp_path / "t", errors="surrogateescape") as tar:
        files = {os.fsencode(member.name) for member in tar.getmembers() if member.isfile()}
    assert files == set(names)


@pytest.mark.slow
def test_bytecode_stays_valid_in_the_artifact(root: Path, tmp_path: Path) -> None:
    """Every file has the same time there; bytecode that goes by times would be compiled again at each cold start."""
    source = root / "module.py"
    source.write_text("VALUE = 41\n")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    packed(root, tmp_path / "t")
    subprocess.run(["tar", "-xf", tmp_path / "t", "-C", tmp_path], check=True)
    bytecode = importlib.util.cache_from_source(str(tmp_path / "module.py"))
    # The source says something else now: whoever gets 41 has used the bytecode.
    (tmp_path / "module.py").write_text("VALUE = 42\n")
    assert Path(bytecode).exists()
    code = "import sys; sys.path.insert(0, sys.argv[1]); import module; print(module.VALUE)"
    done = subprocess.run([sys.executable, "-I", "-c", code, tmp_path], capture_output=True, check=True)
    assert done.stdout == b"41\n"


def test_stale_bytecode_is_left_as_it_is(root: Path, tmp_path: Path) -> None:
    source = root / "module.py"
    source.write_text("VALUE = 41\n")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    source.write_text("VALUE = 4200\n")
    packed(root, tmp_path / "t")
    bytecode = Path(importlib.util.cache_from_source(str(source)))
    with tarfile.open(tmp_path / "t") as tar:
        file = tar.extractfile(f"__pycache__/{bytecode.name}")
        assert file is not None
        assert file.read() == bytecode.read_bytes()
