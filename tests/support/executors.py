"""A local executor on any driver, and functions to run in it."""

import contextlib
import hashlib
import io
import tarfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from hearth.executor.limits import ExecutorLimits
from hearth.executor.local import LocalExecutor
from hearth.executor.sandbox.spec import Driver
from hearth.model import times
from hearth.model.refusals import Unavailable
from hearth.model.running import Artifact, InstanceKey, InstanceTemplate, Invocation, Result
from hearth.ports import FileNotStored
from hearth.runtimes.families import shim_command
from hearth.runtimes.packs import Level, Pack

_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
_PYTHON3 = "/usr/bin/python3"

NODE = Pack("node-20", "node", "20", Level.EXACT, "host", "/usr/bin/node", shim_command("node", "/usr/bin/node"), _PATH)
PYTHON = Pack("python-3.11", "python", "3.11", Level.EXACT, "host", _PYTHON3, shim_command("python", _PYTHON3), _PATH)


class FakePacks:
    """The packs of a machine with the Node and Python that Debian installs, and what a test adds."""

    def __init__(self, *more: Pack) -> None:
        self._packs = {pack.id: pack for pack in (NODE, PYTHON, *more)}

    def get(self, id: str) -> Pack | None:
        return self._packs.get(id)

    def all(self) -> Sequence[Pack]:
        return tuple(self._packs.values())


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        return times.now()

    def monotonic(self) -> float:
        return time.monotonic()


class FakeFiles:
    """Artifacts in a folder; only what an executor asks for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.reads = 0
        folder.mkdir(exist_ok=True)

    def put(self, data: bytes) -> Artifact:
        digest = hashlib.sha256(data).hexdigest()
        (self._folder / digest).write_bytes(data)
        return Artifact(f"artifacts/{digest}", digest, len(data))

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        path = self._folder / key.rpartition("/")[2]
        self.reads += 1
        if not path.exists():
            raise FileNotStored(key)
        yield path

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"an executor must not use Files.{name}")


def pack_files(files: Mapping[str, str | bytes]) -> bytes:
    """An artifact (tar.gz) of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755 if data.startswith(b"\x7fELF") else 0o644
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def folder_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder, for `pack_files`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    }


@dataclass
class Bench:
    """An executor with everything around it, and short ways to use it."""

    driver: Driver
    files: FakeFiles
    executor: LocalExecutor
    from_stems: bool = False
    """Whether a stem cell is waited for before the first run of a template."""
    deployments: int = field(default=0)
    _prepared: set[str] = field(default_factory=set)

    def deploy(
        self,
        runtime: str,
        entrypoint: str,
        files: Mapping[str, str | bytes],
        environment: Mapping[str, str] | None = None,
        memory_mb: int = 256,
    ) -> InstanceTemplate:
        """A template for new code, with an instance key of its own."""
        self.deployments += 1
        key = InstanceKey(f"deployment-{self.deployments}", "variables", "s-1vcpu-512mb")
        artifact = self.files.put(pack_files(files))
        return InstanceTemplate(
            key, "project", "function", runtime, artifact, entrypoint, environment or {}, 1.0, memory_mb
        )

    async def run(self, template: InstanceTemplate, action: str = "", body: bytes = b"", **changes: Any) -> Result:
        """One invocation: POST / with `x-action`; `changes` replace fields of the invocation."""
        await self.prepare(template)
        return await self.executor.invoke(invocation(template, action, body, **changes))

    async def prepare(self, template: InstanceTemplate) -> None:
        """Wait for a stem cell of the template where this bench starts from stem cells; once a deployment."""
        if self.from_stems and template.key.deployment_id not in self._prepared:
            self._prepared.add(template.key.deployment_id)
            with contextlib.suppress(Unavailable):
                await self.executor.prepare(template)


def invocation(template: InstanceTemplate, action: str = "", body: bytes = b"", **changes: Any) -> Invocation:
    """POST / with `x-action: action`; `headers` in `changes` are added, the rest replace fields."""
    headers = {"content-type": "text/plain", "host": "localhost:3000", "x-action": action, **changes.pop("headers", {})}
    made = Invocation("execution", template, "POST", "/", headers, body, timeout_s=15.0, wait_s=20.0)
    return replace(made, **changes)


@asynccontextmanager
async def open_bench(
    driver: Driver,
    folder: Path,
    limits: ExecutorLimits | None = None,
    packs: FakePacks | None = None,
    from_stems: bool = False,
) -> AsyncIterator[Bench]:
    """A started executor; afterwards it is closed and must have left no instance and no stem cell."""
    files = FakeFiles(folder / "files")
    executor = LocalExecutor(driver, packs or FakePacks(), files, folder, limits or ExecutorLimits(), SystemClock())
    await executor.start()
    try:
        yield Bench(driver, files, executor, from_stems)
    finally:
        await executor.close(0.0)
        await driver.close()
        assert repr(executor).startswith(
            "<LocalExecutor <Pool (closed): no instance; 0 waiting>, <StemKeeper <Stems (closed): none;"
        ), repr(executor)
