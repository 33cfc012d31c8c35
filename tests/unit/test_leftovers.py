"""The test support that looks for leftovers has to find them, or the crash tests prove nothing."""

import subprocess
import sys
from pathlib import Path

from tests.support.leftovers import footprint, mounts_below, processes_using
from tests.support.server import wait_for


def test_a_footprint_holds_descendants_and_forgets_them_when_they_are_gone() -> None:
    program = "import subprocess; p = subprocess.Popen(['sleep', '30']); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    # Right after an exec there is a moment without arguments.
    wait_for(lambda: Path(f"/proc/{grandchild}/cmdline").read_bytes(), 5, "the grandchild's arguments")
    seen = footprint(parent.pid)
    assert {p.pid for p in seen.processes} == {parent.pid, grandchild}
    assert len(seen.remains()) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    (line,) = seen.remains()
    assert "sleep 30" in line, "an orphan is still found"
    subprocess.run(["kill", "-9", str(grandchild)], check=True)
    wait_for(lambda: not seen.remains(), 5, "the orphan to end")


def test_a_process_in_a_folder_is_found_by_its_working_folder(tmp_path: Path) -> None:
    child = subprocess.Popen(["cat"], cwd=tmp_path, stdin=subprocess.PIPE)
    assert processes_using(tmp_path) == [f"process {child.pid}: cat"]
    child.communicate()
    assert processes_using(tmp_path) == []
    assert mounts_below(tmp_path) == []
