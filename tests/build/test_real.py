"""Builds in real sandboxes: what users get, and what hostile archives and commands do not (cases B and F9)."""

import asyncio
import gzip
import io
import os
import resource
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hearth.build.builder import BuildSettings
from hearth.model.running import BuildRequest
from tests.support.archives import archive
from tests.support.build_site import NODE, PYTHON, Site, open_site

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture
def settings() -> BuildSettings:
    return BuildSettings(disk_mb=256, source_bytes=4 << 20, source_entries=1_000)


@pytest.fixture
async def site(tmp_path: Path, settings: BuildSettings) -> AsyncIterator[Site]:
    async with open_site(tmp_path, settings) as site:
        yield site


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar.gz with these entries exactly as given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1)


def entry(name: str, type: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = type, link, mode
    return info


# ------------------------------------------------------------------------------------------------ what users get


@pytest.mark.network
async def test_npm_installs_a_package_through_the_gate_without_commands(site: Site) -> None:
    result = await site.build({**NODE, "package.json": '{"dependencies": {"is-number": "7.0.0"}}'})
    files = await site.output(result)
    assert "node_modules/is-number/index.js" in files
    assert "running `npm install`" in site.log
    assert "package-lock.json" in files


@pytest.mark.network
@pytest.mark.parametrize("command", ["pip install -r requirements.txt", "python -m pip install -r requirements.txt"])
async def test_pip_installs_a_package_through_the_gate_into_the_artifact(site: Site, command: str) -> None:
    result = await site.build({**PYTHON, "requirements.txt": "idna==3.7\n"}, "python", commands=command)
    files = await site.output(result)
    assert any(name.endswith("/site-packages/idna/core.py") for name in files)
    assert not any("/pip/" in name or name.startswith("runtime-env/bin/") for name in files)


async def test_a_source_without_dependencies_is_built_without_commands(site: Site) -> None:
    result = await site.build(NODE)
    assert (await site.output(result)).keys() == {"main.js", ".open-runtimes"}
    assert result.warnings == ()


async def test_equal_sources_give_the_same_artifact(site: Site) -> None:
    first, second = await site.build(NODE), await site.build(NODE)
    assert first.artifact == second.artifact


async def test_output_arrives_while_the_command_still_runs(site: Site) -> None:
    seen: dict[str, float] = {}

    def note(text: str) -> None:
        for word in ("first", "second"):
            if word in text:
                seen.setdefault(word, time.monotonic())

    site.on_text = note
    await site.build(NODE, commands="echo first; sleep 1; echo second")
    assert seen["second"] - seen["first"] > 0.7


async def test_a_failing_command_keeps_its_log_and_its_exit_code(site: Site) -> None:
    result = await site.build(NODE, commands="echo before >&2; exit 42")
    assert result.message.startswith("Build failed with exit code 42.")
    assert site.log.endswith("before\n")


async def test_a_syntax_error_is_a_warning_not_a_failure(site: Site) -> None:
    result = await site.build({"main.py": "def main(:\n"}, "python")
    assert result.artifact is not None
    assert "main.py has a syntax error" in result.warnings[0]
    assert result.warnings[0] in site.log


async def test_a_missing_entrypoint_names_a_near_file(site: Site) -> None:
    result = await site.build(NODE, entrypoint="src/main.js")
    assert 'Did you mean "main.js"?' in result.message


# ------------------------------------------------------------------------------------------------ archives (B1-B4)


@pytest.mark.parametrize(
    "data",
    [
        tar_of((entry("../x"), b"1")),
        tar_of((entry("/etc/x"), b"1")),
        tar_of((entry("a/../../x"), b"1")),
        tar_of((entry("a\nb"), b"1")),
        tar_of((entry("a\x1bb"), b"1")),
        tar_of((entry("n" * 256), b"1")),
        tar_of((entry("/".join(["d"] * 2_000)), b"1")),
        tar_of((entry("l", tarfile.SYMTYPE, "/"), b"")),
        tar_of((entry("l", tarfile.SYMTYPE, "../.."), b"")),
        tar_of(
            (entry("a", tarfile.SYMTYPE, "."), b""), (entry("a/b", tarfile.SYMTYPE, ".."), b""), (entry("a/b/c"), b"")
        ),
        tar_of((entry("l", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        tar_of((entry("c", tarfile.CHRTYPE), b"")),
        tar_of((entry("p", tarfile.FIFOTYPE), b"")),
        tar_of((entry("s", mode=0o4755), b"1")),
        tar_of((entry("zeros"), bytes(20 << 20))),
        tar_of(*((entry(str(number)), b"") for number in range(1_001))),
        archive(NODE)[:-20],
        archive(NODE)[:-8] + bytes(8),
        b"PK\x03\x04 a zip",
        b"\x28\xb5\x2f\xfd zstd",
        b"",
    ],
    ids=lambda data: f"{len(data)}",
)
async def test_a_hostile_archive_is_refused_with_a_sentence_and_nothing_is_left(site: Site, data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await site.build(data)
    assert result.artifact is None
    assert result.message.startswith("The source archive was refused: ")
    assert len(result.message) > 50
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert {path.name for path in site.data.iterdir()} <= {"work", "files"}


async def test_an_archive_without_files_has_no_source(site: Site) -> None:
    result = await site.build(tar_of((entry("."), b"")))
    assert "No source code found" in result.message or "refused" in result.message


# ------------------------------------------------------------------------------------------------ commands (B5-B7, F9)


async def test_a_build_sees_its_own_variables_and_nothing_of_the_server(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_OF_THE_SERVER", "token-7f3a")
    result = await site.build(NODE, commands="env > seen; cat /proc/*/environ > all || true", environment={"MINE": "m"})
    files = await site.output(result)
    names = {line.partition(b"=")[0].decode() for line in files["seen"].splitlines()}
    ours = {"HOME", "TMPDIR", "TERM", "LANG", "USER", "SHELL", "PATH", "PWD", "SHLVL", "_"}
    registries = {"npm_config_nodedir", "PIP_CONFIG_FILE", "NPM_CONFIG_GLOBALCONFIG", "NODE_EXTRA_CA_CERTS"}
    assert "MINE" in names
    assert {name for name in names - ours - registries - {"MINE"} if not name.startswith("OPEN_RUNTIMES_")} == set()
    assert b"token-7f3a" not in files["all"]


async def test_nothing_of_a_build_survives_into_the_next(site: Site) -> None:
    commands = "(setsid sleep 300 &) ; echo registry=evil > ~/.npmrc; echo x > /tmp/left; echo x > $TMPDIR/left"
    await site.build(NODE, commands=commands)
    result = await site.build(NODE, commands="(ls -A ~ $TMPDIR /tmp; ps x || ls -d /proc/[0-9]*) > seen 2>&1")
    seen = (await site.output(result))["seen"].decode()
    assert "left" not in seen
    assert ".npmrc" not in seen
    assert "sleep" not in seen


async def test_the_system_is_read_only_to_a_build(site: Site) -> None:
    commands = "for f in /usr/x /etc/x /usr/local/server/shims/x /usr/local/server/registries/x /x; do"
    result = await site.build(NODE, commands=f"{commands} touch $f 2>/dev/null && echo $f; done > wrote; true")
    assert (await site.output(result))["wrote"] == b""


async def test_a_build_that_waits_for_input_gets_none(site: Site) -> None:
    result = await site.build(NODE, commands="cat > got; wc -c < got")
    assert (await site.output(result))["got"] == b""


async def test_a_build_over_its_time_is_ended_with_its_log(site: Site) -> None:
    began = time.monotonic()
    result = await site.build(NODE, commands="echo begun; sleep 300", timeout_s=2.0)
    assert time.monotonic() - began < 4
    assert result.message.startswith("Build timed out after 2 seconds")
    assert "begun" in site.log


async def test_a_build_over_its_memory_is_said_to_be(site: Site) -> None:
    commands = "node -e 'const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1))'"
    result = await site.build(NODE, commands=commands, memory_mb=128)
    assert "Build ran out of memory: it may use 128 MB" in result.message


@pytest.mark.parametrize(
    "commands",
    [
        "head -c 400M /dev/zero > big",
        "for i in 1 2 3 4; do head -c 100M /dev/zero > $i; done; sleep 60",
        "for i in 1 2 3 4; do head -c 100M /dev/zero > ~/$i; done; sleep 60",
        "exec 9> gone; rm gone; head -c 200M /dev/zero >&9; head -c 100M /dev/zero > big; sleep 60",
        "mkdir -m 0 d; chmod 300 d; for i in 1 2 3; do head -c 100M /dev/zero > d/$i; done; chmod 0 d; sleep 60",
    ],
)
async def test_a_build_over_its_disk_is_ended_and_names_the_setting(site: Site, commands: str) -> None:
    result = await site.build(NODE, commands=commands)
    assert result.artifact is None
    assert "256 MB of disk space" in result.message
    assert "HEARTH_BUILD_DISK_MB" in result.message


async def test_a_sparse_file_beyond_the_limit_cannot_be_made(site: Site) -> None:
    result = await site.build(NODE, commands="truncate -s 1T sparse 2> why || true; rm -f sparse; cat why")
    assert "sparse" in site.log
    assert result.artifact is not None


async def test_a_flood_of_output_is_bounded_and_the_end_is_kept(site: Site) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes: list[int] = []
    site.on_text = lambda text: sizes.append(len(text))
    result = await site.build(NODE, commands="yes | head -c 200M; echo; echo the end; exit 3", timeout_s=110.0)
    assert result.message.startswith("Build failed with exit code 3.")
    assert site.log.endswith("the end\n")
    assert "characters of output left out." in site.log
    assert sum(sizes) < 16_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("output", ["out", "elsewhere"])
async def test_an_output_that_is_a_link_is_refused(site: Site, output: str) -> None:
    result = await site.build(
        NODE,
        commands="ln -s /etc out; mkdir real; ln -s real elsewhere; cp main.js real",
        environment={"OPEN_RUNTIMES_OUTPUT_DIRECTORY": output},
    )
    assert "No build output found" in result.message


async def test_a_link_out_of_the_output_is_refused_by_name(site: Site) -> None:
    result = await site.build(NODE, commands="ln -s /etc/passwd secrets.txt")
    assert 'The link "secrets.txt" in the build output points to "/etc/passwd"' in result.message


async def test_a_cancelled_build_is_over_within_a_second(site: Site) -> None:
    begun = asyncio.Event()

    def note(text: str) -> None:
        if "begun" in text:
            begun.set()

    site.on_text = note
    task = asyncio.create_task(site.build(NODE, commands="echo begun; sleep 300"))
    await asyncio.wait_for(begun.wait(), 30)
    cancelled = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - cancelled < 1
    assert list((site.data / "work").iterdir()) == []
    assert "0 sandboxes" in repr(site.driver)


async def test_two_builds_at_once_do_not_find_each_other(site: Site) -> None:
    async def one(word: str) -> bytes:
        commands = f"echo {word} > /tmp/mark; sleep 0.5; ls -d /proc/[0-9]* | wc -l > count; cat /tmp/mark > seen"
        request = BuildRequest(
            word, "p", "f", site.runtime("node"), "sources/p/d", "main.js", commands, {}, 1.0, 1024, 60.0, 10_000_000
        )
        return (await site.output(await site.builder.build(request, lambda text: None)))["seen"]

    await site.build(NODE)
    assert await asyncio.gather(one("one"), one("two")) == [b"one\n", b"two\n"]


async def test_sweep_removes_what_a_killed_server_left(site: Site) -> None:
    left = site.data / "work" / "build-left-1" / "build"
    left.mkdir(parents=True)
    (left / "file").write_text("1")
    os.chown(left / "file", 330_001, 330_001)
    await site.builder.sweep()
    assert list((site.data / "work").iterdir()) == []
