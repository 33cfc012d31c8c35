"""Builds in real sandboxes, for tests: a builder, its file store and its cache in one data folder."""

import os
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import hearth
from hearth.build.builder import BuildSettings, SandboxBuilder
from hearth.build.cache import BuildCache
from hearth.executor.sandbox.config import GateConfig, SpawnerConfig
from hearth.executor.sandbox.launch import start_gate, start_spawner
from hearth.executor.sandbox.ns import NsDriver
from hearth.model.running import BuildRequest, BuildResult
from hearth.runtimes.host import discover_host_packs
from hearth.runtimes.packs import Packs
from hearth.runtimes.registries import client_registries
from hearth.store.files.local import LocalFiles
from tests.support.archives import archive
from tests.support.uids import first_uid

NODE = {"main.js": "module.exports = async ({ res }) => res.text('hi');\n"}
PYTHON = {"main.py": "def main(context):\n    return context.res.text('hi')\n"}
GATE_UID = 61_103
SHIMS = Path(hearth.__file__).resolve().parent / "runtimes" / "shims"


class Site:
    """A builder over real sandboxes, and what it left in its data folder."""

    def __init__(self, data: Path, driver: NsDriver, packs: Packs, settings: BuildSettings) -> None:
        self.data = data
        self.packs = packs
        self.driver = driver
        self.files = LocalFiles(data)
        self.cache = BuildCache(data / "build-cache", b"k" * 32, limit_bytes=400_000_000, max_age_s=3600)
        self.builder = SandboxBuilder(driver, packs, self.files, data, client_registries(), settings, self.cache)
        self.log = ""
        self.on_text: Callable[[str], None] = lambda text: None

    def runtime(self, family: str) -> str:
        found = [pack.id for pack in self.packs.all() if pack.family == family]
        if not found:
            pytest.skip(f"no {family} on this machine")
        return found[0]

    async def build(
        self, source: Mapping[str, str | bytes] | bytes, family: str = "node", **changes: Any
    ) -> BuildResult:
        data = source if isinstance(source, bytes) else archive(source)
        async with self.files.scratch() as path:
            path.write_bytes(data)
            await self.files.adopt("sources/p/d", path)
        fields: dict[str, Any] = {
            "deployment_id": "d",
            "project_id": "p",
            "function_id": "f",
            "runtime": self.runtime(family),
            "source_key": "sources/p/d",
            "entrypoint": "main.js" if family == "node" else "main.py",
            "commands": "",
            "environment": {},
            "cpus": 1.0,
            "memory_mb": 1024,
            "timeout_s": 120.0,
            "output_limit_bytes": 100_000_000,
            **changes,
        }
        self.log = ""

        def on_log(text: str) -> None:
            self.log += text
            self.on_text(text)

        result = await self.builder.build(BuildRequest(**fields), on_log)
        assert list((self.data / "work").iterdir()) == [], "every end leaves no work folder"
        return result

    async def output(self, result: BuildResult) -> dict[str, bytes]:
        """The files of an artifact."""
        assert result.artifact is not None, f"{result.message}\n{self.log}"
        async with self.files.local(result.artifact.key) as path:
            with tarfile.open(path) as tar:
                return {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]


@asynccontextmanager
async def open_site(tmp_path: Path, settings: BuildSettings) -> AsyncIterator[Site]:
    """A site below `tmp_path`; skips the test without root."""
    if os.geteuid() != 0:
        pytest.skip("real sandboxes need root")
    packs = discover_host_packs()
    data = tmp_path / "data"
    data.mkdir()
    keep = (sys.prefix, sys.base_prefix, str(SHIMS.parents[2]))
    spawner = start_spawner(
        SpawnerConfig(
            data_folder=str(data),
            server_uid=0,
            server_gid=0,
            read_only_bases=(str(SHIMS),),
            uid_first=first_uid(30_000),
        )
    )
    gate = start_gate(GateConfig(uid=GATE_UID, gid=GATE_UID, keep=keep, registry_hosts=client_registries().hosts))
    driver = NsDriver(spawner, gate)
    try:
        yield Site(data, driver, packs, settings)
    finally:
        await driver.close()
