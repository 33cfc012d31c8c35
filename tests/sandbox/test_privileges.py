"""What a process of ours can still do, and reach, after it gave up root."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox import harness

LOOK = """
import json, os, sys
from hearth.executor.sandbox.privileges import drop_privileges
uid, keep, paths = json.loads(sys.argv[1])
os.chdir(paths[0])
drop_privileges(uid, uid, keep)
def seen(action):
    try:
        return action()
    except OSError as problem:
        return type(problem).__name__
rows = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
names = ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs")
def content(path):
    return sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read()
print(json.dumps({
    "status": {name: rows[name].split() for name in names},
    "read": {path: seen(lambda: content(path)) for path in paths},
    "root": seen(lambda: os.setuid(0)),
    "mount": seen(lambda: os.listdir("/root")),
    "import": seen(lambda: __import__("wave").__name__),
    "cwd": os.getcwd(),
}))
"""


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder only root may enter, with a kept folder, a kept file, a link to the folder, and a secret in it."""
    for folder in tmp_path.parents[0], tmp_path.parents[1]:
        os.chmod(folder, 0o755)
    os.chmod(tmp_path, 0o755)
    top = tmp_path / "closed"
    kept = top / "private" / "kept"
    kept.mkdir(parents=True)
    (kept / "file").write_text("kept file")
    (top / "single").write_text("single file")
    (top / "secret").write_text("secret")
    (top / "link").symlink_to("private/kept")
    os.chmod(top / "private", 0o700)
    os.chmod(top, 0o700)
    return top


def look(*arguments: object) -> dict[str, object]:
    command = [sys.executable, "-I", "-c", LOOK, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_kept_paths_stay_reachable_at_their_paths_and_nothing_beside_them(closed: Path) -> None:
    keep = [str(closed / "link"), str(closed / "single"), sys.prefix, sys.base_prefix]
    paths = [
        closed,
        closed / "link",
        closed / "private" / "kept" / "file",
        closed / "single",
        closed / "secret",
        "/usr",
    ]
    source = str(Path(__file__).parents[2] / "src")
    found = look(harness.SERVER_UID, [*keep, source], [str(path) for path in paths])
    read = found["read"]
    assert isinstance(read, dict)
    assert read[str(closed)] == ["link", "private", "single"]
    assert read[str(closed / "link")] == ["file"]
    assert read[str(closed / "private" / "kept" / "file")] == "kept file"
    assert read[str(closed / "single")] == "single file"
    assert read[str(closed / "secret")] == "FileNotFoundError"
    assert "bin" in read["/usr"], "the rest of the host is as it was"
    assert found["cwd"] == str(closed)


def test_root_is_gone_for_good(closed: Path) -> None:
    source = str(Path(__file__).parents[2] / "src")
    found = look(harness.SERVER_UID, [sys.prefix, sys.base_prefix, source], ["/"])
    zero = ["0" * 16]
    uid = [str(harness.SERVER_UID)] * 4
    assert found["status"] == {
        "Uid": uid,
        "Gid": uid,
        "Groups": [],
        "CapPrm": zero,
        "CapEff": zero,
        "CapBnd": zero,
        "NoNewPrivs": ["1"],
    }
    assert found["root"] == "PermissionError"
    assert found["mount"] == "PermissionError"
    assert found["import"] == "wave"


def test_a_kept_path_that_is_missing_is_an_error(closed: Path) -> None:
    with pytest.raises(AssertionError, match="FileNotFoundError"):
        look(harness.SERVER_UID, [str(closed / "nothing")], ["/"])
