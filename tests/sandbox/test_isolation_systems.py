"""The isolation cases that concern the root folder, in sandboxes with another system than the host's."""

import inspect
import os
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hearth.executor.sandbox.ns import NsDriver
from hearth.executor.sandbox.spec import SandboxFailed
from tests.sandbox import harness, modes
from tests.sandbox import test_isolation_files as files
from tests.sandbox.harness import run
from tests.sandbox.test_isolation_files import canaries as canaries

pytestmark = pytest.mark.anyio

CASES = (
    files.test_F1_nothing_of_the_root_or_the_code_can_be_written,
    files.test_F2_host_files_cannot_be_read_by_any_name,
    files.test_F2_nothing_is_open_but_the_documented_descriptors,
    files.test_F3_only_the_documented_folders_exist,
    files.test_F4_the_mount_table_names_nothing_of_the_host_and_every_mount_is_confined,
    files.test_F5_no_device_can_be_made_or_opened,
    files.test_F7_what_one_sandbox_leaves_in_tmp_no_other_sees,
    files.test_F9_one_file_ends_at_the_file_size_limit,
)
MARK = "/usr/share/of-this-system"


def copy_into(system: Path, path: Path) -> None:
    """Put a file of the host at the same path of the system; links become what they lead to."""
    target = system / str(path.parent.resolve()).lstrip("/") / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path.resolve(), target)


def libraries(programs: list[Path]) -> set[Path]:
    """The shared libraries, and the loader, that programs and libraries need."""
    done = subprocess.run(["ldd", *programs], capture_output=True, text=True, timeout=60, check=False)
    return {Path(path) for path in re.findall(r"(?:=> |^\s*)(/\S+) \(", done.stdout, flags=re.MULTILINE)}


@pytest.fixture(scope="module")
def system(data_folder: Path) -> Iterator[Path]:
    """A small system of its own: the host's Python and what it needs, some files in /etc, and links as Debian's."""
    made = data_folder / "system"
    python = Path(harness.PYTHON).resolve()
    standard = Path(f"/usr/lib/{python.name}")
    made.mkdir(mode=0o755)
    ignored = shutil.ignore_patterns("test", "idlelib", "lib2to3", "dist-packages", "__pycache__", "config-*")
    shutil.copytree(standard, made / str(standard).lstrip("/"), ignore=ignored)
    copy_into(made, python)
    for library in libraries([python, *standard.glob("lib-dynload/*.so")]):
        copy_into(made, library)
    (made / harness.PYTHON.lstrip("/")).symlink_to(python.name)
    (made / "usr/sbin").mkdir()
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path(f"/{name}").is_symlink():
            (made / name).symlink_to(f"usr/{name}")
    for folder in ("usr/local/share", "usr/src/linux", "usr/share", "etc/alternatives", "etc/php"):
        (made / folder).mkdir(parents=True)
    (made / "usr/local/share/hidden").write_text("x")
    (made / MARK.lstrip("/")).write_text("x")
    (made / "etc/mime.types").symlink_to("/etc/shadow")
    (made / "etc/services").write_text("of this system")
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.removeprefix("test_"))
async def test_the_file_cases_hold_with_another_system(
    case: Callable[..., Awaitable[None]],
    system: Path,
    driver: NsDriver,
    data_folder: Path,
    owner: modes.Owner,
    canaries: dict[str, str],
) -> None:
    given: dict[str, Any] = {"driver": driver, "data_folder": data_folder, "owner": owner, "canaries": canaries}
    with harness.with_system(system):
        await case(**{name: given[name] for name in inspect.signature(case).parameters})


async def test_the_system_is_seen_without_what_hides_or_leads_out(system: Path, driver: NsDriver) -> None:
    folders = ["/usr/share", "/usr/local", "/etc"]
    with harness.with_system(system):
        found = (await run(driver, "list_all", {"paths": folders})).answer
        read = (await run(driver, "read_all", {"paths": ["/etc/services", "/etc/mime.types"]})).answer
    assert found["/usr/share"] == [Path(MARK).name], "the host's /usr is not there"
    assert found["/usr/local"] == []
    assert "mime.types" not in found["/etc"], "a link is not followed in the host's root"
    assert "php" in found["/etc"]
    assert read == {"/etc/services": "of this system", "/etc/mime.types": "ENOENT"}


async def test_a_system_that_was_replaced_is_seen_by_the_next_sandbox(
    system: Path, driver: NsDriver, data_folder: Path
) -> None:
    with harness.with_system(system):
        await run(driver, "list_all", {"paths": ["/usr/share"]})
        newer = data_folder / "newer"
        shutil.copytree(system, newer, symlinks=True)
        (newer / "usr/share/newer").write_text("x")
        system.rename(data_folder / "older")
        newer.rename(system)
        try:
            found = (await run(driver, "list_all", {"paths": ["/usr/share"]})).answer
            assert "newer" in found["/usr/share"]
        finally:
            shutil.rmtree(system)
            (data_folder / "older").rename(system)


async def test_a_system_that_others_than_root_can_change_is_refused(
    system: Path, driver: NsDriver, data_folder: Path, owner: modes.Owner
) -> None:
    changed = data_folder / "changed"
    changed.mkdir()
    os.chmod(changed, 0o777)
    with harness.with_system(changed), pytest.raises(SandboxFailed, match="can be changed by others"):
        await run(driver, "list_all", {"paths": ["/"]})
    if not owner.name:
        os.chmod(changed, 0o755)
        os.chown(changed, owner.uid, owner.gid)
        with harness.with_system(changed), pytest.raises(SandboxFailed, match="can be changed by others"):
            await run(driver, "list_all", {"paths": ["/"]})
    (data_folder / "link").symlink_to(system)
    with harness.with_system(data_folder / "link"), pytest.raises(SandboxFailed):
        await run(driver, "list_all", {"paths": ["/"]})
    with harness.with_system(Path("/")), pytest.raises(SandboxFailed, match="no folder that sandboxes may be shown"):
        await run(driver, "list_all", {"paths": ["/"]})
