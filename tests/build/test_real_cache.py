"""The build cache in real sandboxes: equal artifacts, installs that are not done twice, projects apart."""

import base64
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from hearth.build.builder import BuildSettings
from tests.support.build_site import NODE, PYTHON, Site, open_site

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.slow]

RESTORED = "Restored what an earlier build installed"
KEPT = "Kept what was installed for later builds"
NOTHING_TO_ADD = "has nothing to add to what was restored"

PACKAGE = '{"name": "f", "version": "1.0.0", "dependencies": {"ms": "2.1.3"}}'
LOCK = """{"name": "f", "version": "1.0.0", "lockfileVersion": 3, "packages": {
  "": {"name": "f", "version": "1.0.0", "dependencies": {"ms": "2.1.3"}},
  "node_modules/ms": {"version": "2.1.3", "integrity":
  "sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA=="}}}
"""
NODE_APP = {**NODE, "package.json": PACKAGE, "package-lock.json": LOCK}
#: Stands for an install: slow, random, and only done where nothing is restored.
INSTALL = "[ -e node_modules/x ] || { mkdir -p node_modules/x; date +%s%N > node_modules/x/index.js; }"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = BuildSettings(disk_mb=256, source_bytes=4 << 20, source_entries=1_000)
    async with open_site(tmp_path, settings) as site:
        yield site


def wheel(name: str) -> bytes:
    """A wheel of one module, as small as pip takes it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": "VALUES = frozenset({'a', 'b', 'c'})\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}"
        for path, text in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return buffer.getvalue()


async def test_what_was_installed_is_restored_for_another_source_with_the_same_manifests(site: Site) -> None:
    first = await site.output(await site.build(NODE_APP, commands=INSTALL))
    assert KEPT in site.log
    second = await site.output(await site.build({**NODE_APP, "more.js": "1"}, commands=INSTALL))
    assert RESTORED in site.log
    assert KEPT not in site.log
    assert second["node_modules/x/index.js"] == first["node_modules/x/index.js"]
    assert second["more.js"] == b"1"


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ({"package.json": PACKAGE.replace("1.0.0", "1.0.1")}, {}),
        ({}, {"commands": INSTALL + "; :"}),
        ({}, {"variables": {"NPM_TOKEN": "other"}}),
        ({}, {"project_id": "another"}),
        ({}, {"use_cache": False}),
    ],
)
async def test_another_manifest_command_variable_or_project_installs_anew(
    site: Site, source: Mapping[str, str], changes: dict[str, object]
) -> None:
    first = await site.output(await site.build(NODE_APP, commands=INSTALL))
    second = await site.output(await site.build({**NODE_APP, **source}, **{"commands": INSTALL, **changes}))
    assert RESTORED not in site.log
    assert second["node_modules/x/index.js"] != first["node_modules/x/index.js"]


async def test_a_build_without_the_cache_is_what_later_ones_restore(site: Site) -> None:
    await site.build(NODE_APP, commands=INSTALL)
    anew = await site.output(await site.build(NODE_APP, commands=INSTALL, use_cache=False))
    later = await site.output(await site.build(NODE_APP, commands=INSTALL))
    assert later["node_modules/x/index.js"] == anew["node_modules/x/index.js"]


async def test_a_variable_switches_the_cache_off(site: Site) -> None:
    for _ in range(2):
        await site.build(NODE_APP, commands=INSTALL, variables={"HEARTH_BUILD_CACHE": "off"})
        assert KEPT not in site.log
        assert RESTORED not in site.log


async def test_a_failed_build_keeps_nothing_and_forgets_what_it_restored(site: Site) -> None:
    """What was restored may be to blame: whoever builds again begins anew."""
    failing = INSTALL + "; grep -q good main.js"
    await site.build(NODE_APP, commands=failing)
    assert KEPT not in site.log
    good = {**NODE_APP, "main.js": "// good\n" + NODE["main.js"]}
    await site.build(good, commands=failing)
    assert KEPT in site.log
    await site.build(NODE_APP, commands=failing)
    assert RESTORED in site.log
    await site.build(good, commands=failing)
    assert RESTORED not in site.log


async def test_a_poisoned_entry_is_installed_anew(site: Site) -> None:
    await site.build(NODE_APP, commands=INSTALL)
    [entry] = [path for path in (site.data / "build-cache").rglob("*") if path.is_file()]
    data = entry.read_bytes()
    entry.write_bytes(data.replace(b"\n", b"!", 1))
    await site.output(await site.build(NODE_APP, commands=INSTALL))
    assert RESTORED not in site.log
    assert KEPT in site.log


async def test_python_builds_are_equal_and_a_warm_cache_needs_no_network(site: Site) -> None:
    """The second build has neither an index nor the wheels, only the cache."""
    commands = "pip install -r requirements.txt && python -c 'import demo'"
    variables = {"PIP_NO_INDEX": "1"}
    source = {**PYTHON, "requirements.txt": "demo==1.0\n"}

    async def build(files: Mapping[str, str | bytes], **changes: object) -> dict[str, bytes]:
        environment = {**variables, "PIP_FIND_LINKS": "wheels"}
        result = await site.build(
            files, "python", commands=commands, environment=environment, variables=variables, **changes
        )
        return {name: data for name, data in (await site.output(result)).items() if not name.startswith("wheels/")}

    wheels = {"wheels/demo-1.0-py3-none-any.whl": wheel("demo")}
    first = await build({**source, **wheels})
    again = await build({**source, **wheels}, use_cache=False)
    assert again == first
    assert any(name.endswith(".pyc") for name in first)
    warm = await build(source)
    assert RESTORED in site.log
    assert warm == first


@pytest.mark.network
async def test_commands_that_only_install_are_not_run_again(site: Site) -> None:
    first = await site.build(NODE_APP)
    cold = await site.build(NODE_APP, use_cache=False)
    warm = await site.build({**NODE_APP})
    assert NOTHING_TO_ADD in site.log
    assert first.artifact is not None
    assert first.artifact == cold.artifact == warm.artifact


async def test_secret_values_are_not_in_the_log_nor_in_names_of_entries(site: Site) -> None:
    secret = "npm_0123456789"
    variables = {"NPM_TOKEN": secret}
    commands = INSTALL + '; printf "the token is %s" "${NPM_TOKEN:0:5}"; sleep 0.3; echo "${NPM_TOKEN:5}"; exit 0'
    await site.output(
        await site.build(NODE_APP, commands=commands, environment=variables, variables=variables, secrets=(secret,))
    )
    assert "the token is ***" in site.log
    assert secret not in site.log
    assert secret not in " ".join(str(path) for path in site.data.rglob("*"))
