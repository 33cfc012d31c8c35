"""Syntax warnings and disk measuring of a build."""

import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from hearth.runtimes.shims.build import disk
from hearth.runtimes.shims.build.checks import syntax_warning
from hearth.runtimes.shims.build.disk import TooMuch, Watcher, measure

needs_node = pytest.mark.skipif(shutil.which("node", path="/usr/bin") is None, reason="no /usr/bin/node here")


def warning(tmp_path: Path, name: str, text: str, family: str, package: str = "") -> str:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / name).write_text(text)
    if package:
        (folder / "package.json").write_text(package)
    interpreter = sys.executable if family == "python" else "/usr/bin/node"
    return syntax_warning(str(folder / name), name, family, interpreter, str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def main(context):\n    return 1\n", ""),
        ("async def main(context):\n    return (\n", "SyntaxError: '(' was never closed (line 2)"),
        ("\tif x:\n", "IndentationError: unexpected indent (line 1)"),
    ],
)
def test_a_syntax_error_in_python_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    found = warning(tmp_path, "main.py", text, "python")
    assert found == (f"main.py has a syntax error and will fail when executed: {said}" if said else "")


@pytest.mark.slow
@needs_node
@pytest.mark.parametrize(
    ("name", "text", "package", "said"),
    [
        ("main.js", "module.exports = async () => 1;\n", "", ""),
        ("main.js", "import fs from 'fs';\nexport default async () => 1;\n", "", ""),
        ("main.js", "const x = await 1;\nglobalThis.y = x;\n", '{"type": "module"}', ""),
        ("main.js", "const x = ;\n", "", "SyntaxError: Unexpected token ';' (line 1)"),
        ("main.js", "\nexport default async ( => 1;\n", "", "(line 2)"),
        ("main.mjs", "export default 1 1;\n", "", "(line 1)"),
        ("main.cjs", "module.exports = {\n", "", "SyntaxError: Unexpected end of input"),
        ("main.ts", "const x: = ;\n", "", ""),
    ],
)
def test_a_syntax_error_in_javascript_is_one_line_with_its_place(
    tmp_path: Path, name: str, text: str, package: str, said: str
) -> None:
    found = warning(tmp_path, name, text, "node", package)
    assert said in found
    assert bool(found) is bool(said)
    assert "\n" not in found


def test_sparse_files_count_by_what_they_take_and_hard_links_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_deleted_but_open", lambda folders: 0)  # outside a sandbox those of others are seen
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "real").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "real", tmp_path / "again")
    assert 100_000 <= measure([str(tmp_path)], 1 << 20) < 200_000


def test_a_folder_closed_to_hide_something_is_looked_into(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "file").write_bytes(b"x" * 2_000_000)
    hidden.chmod(0)
    with pytest.raises(TooMuch, match="1 MB of disk space"):
        measure([str(tmp_path)], 1 << 20)


def test_a_file_deleted_but_open_still_counts(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"x" * 3_000_000)
        file.flush()
        (tmp_path / "file").unlink()
        with pytest.raises(TooMuch):
            measure([str(tmp_path)], 1 << 21)


def test_too_many_files_are_too_much_however_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_ENTRIES", 5)
    for number in range(6):
        (tmp_path / str(number)).touch()
    with pytest.raises(TooMuch, match="5 files"):
        measure([str(tmp_path)], 1 << 20)


def test_the_watcher_says_once_what_was_exceeded(tmp_path: Path) -> None:
    told = threading.Event()
    reasons: list[str] = []

    def on_excess(reason: str) -> None:
        reasons.append(reason)
        told.set()

    watcher = Watcher([str(tmp_path)], 1 << 20, on_excess)
    watcher.start()
    (tmp_path / "big").write_bytes(b"x" * 2_000_000)
    assert told.wait(5)
    watcher.stop()
    assert reasons == ["its limit of 1 MB of disk space"]
