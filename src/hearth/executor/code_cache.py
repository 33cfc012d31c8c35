"""Unpacked code on disk: artifact -> `<data_dir>/cache/code/<digest>`, unpacked once, removed when room is needed.

An archive is never opened by this process: a sandbox unpacks it (shims/extract/extract.py) into
`<digest>.partial-<random>`, which is renamed when complete, so a folder named like a digest is always whole. Beside
it, `<digest>.size` holds the bytes it takes; a folder without one is removed at the next start.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from hearth.executor.limits import MIB, ExecutorLimits
from hearth.executor.sandbox.spec import Driver, Limits, Mount, Profile, Sandbox, SandboxFailed, SandboxSpec
from hearth.model.refusals import PlatformFault
from hearth.model.running import Artifact
from hearth.ports import Files
from hearth.runtimes.locations import SHIMS_FOLDER, SHIMS_INSIDE

log = structlog.get_logger(__name__)

ARCHIVE_DESCRIPTOR = 4
TARGET_INSIDE = "/mnt/target"
EXIT_BAD_ARCHIVE = 3
#: What is kept of the program's output: its last line is the answer.
OUTPUT_TAIL_BYTES = 16 * 1024
#: A file of a few bytes still takes a block and an inode.
OVERHEAD_BYTES_PER_ENTRY = 4096


class BadArtifact(PlatformFault):
    """An artifact could not be unpacked. Builds make artifacts, so this is ours or the disk's fault."""


@dataclass(eq=False, slots=True)
class _Tree:
    """An unpacked artifact. `users` counts the instances that have it mounted."""

    path: Path
    size_bytes: int
    users: int = 0


@dataclass(eq=False, slots=True)
class _Unpacking:
    """An artifact that is being unpacked, and how many wait for it. `tree` is set once it is there."""

    task: "asyncio.Task[_Tree]"
    callers: int = 0
    tree: _Tree | None = None


class CodeCache:
    """The unpacked code of this machine. One event loop; any number of callers at once."""

    def __init__(self, driver: Driver, files: Files, data_dir: str | os.PathLike[str], limits: ExecutorLimits) -> None:
        self._driver = driver
        self._files = files
        self._folder = Path(data_dir) / "cache" / "code"
        self._limits = limits
        self._trees: dict[str, _Tree] = {}
        """By digest, the least recently used first."""
        self._unpacking: dict[str, _Unpacking] = {}
        self._evicting: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take over what an earlier process left whole, and remove the rest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        found: list[tuple[float, str, int]] = []
        for entry in sorted(self._folder.iterdir()):
            if entry.suffix == ".size":
                if not entry.with_suffix("").is_dir():
                    entry.unlink()
                continue
            size_file = entry.with_suffix(".size")
            try:
                found.append((size_file.stat().st_mtime, entry.name, int(size_file.read_text())))
            except (OSError, ValueError):
                await self._driver.remove_tree(str(entry))
        for _, digest, size_bytes in sorted(found):
            self._trees[digest] = _Tree(self._folder / digest, size_bytes)
        self._evict()

    @contextlib.asynccontextmanager
    async def use(self, artifact: Artifact) -> AsyncIterator[Path]:
        """The folder of an artifact, unpacked if need be; it stays for as long as the context lasts.

        Raises BadArtifact, FileNotStored, or SandboxFailed. If cancelled, the unpacking goes on for whoever comes next.
        """
        tree = await self._obtain(artifact)
        try:
            yield tree.path
        finally:
            tree.users -= 1
            self._evict()

    async def prepare(self, artifact: Artifact) -> None:
        """Unpack an artifact before it is needed. Raises as `use` does."""
        async with self.use(artifact):
            pass

    async def close(self) -> None:
        """End what is being unpacked or removed. What is whole stays for the next process."""
        unpacking = [each.task for each in self._unpacking.values()]
        for task in unpacking:
            task.cancel()
        await asyncio.gather(*unpacking, *self._evicting, return_exceptions=True)

    async def _obtain(self, artifact: Artifact) -> _Tree:
        """The tree of an artifact, taken into use."""
        digest = artifact.digest
        tree = self._trees.pop(digest, None)
        if tree is not None:
            self._trees[digest] = tree  # now the most recently used
            tree.users += 1
            return tree
        unpacking = self._unpacking.get(digest)
        if unpacking is None:
            task = asyncio.create_task(self._unpack(artifact), name=f"unpack {digest[:12]}")
            unpacking = self._unpacking[digest] = _Unpacking(task)
            task.add_done_callback(lambda _: self._unpacked(digest))
        unpacking.callers += 1
        try:
            return await asyncio.shield(unpacking.task)
        except BaseException:
            unpacking.callers -= 1
            if unpacking.tree is not None:
                unpacking.tree.users -= 1
                self._evict()
            raise

    def _unpacked(self, digest: str) -> None:
        """Take the tree into use for everyone who waits for it, before anything can remove it."""
        unpacking = self._unpacking.pop(digest)
        if not unpacking.task.cancelled() and unpacking.task.exception() is None:
            unpacking.tree = tree = unpacking.task.result()
            tree.users = unpacking.callers
            self._trees[digest] = tree
            self._evict()

    async def _unpack(self, artifact: Artifact) -> _Tree:
        path = self._folder / artifact.digest
        partial = self._folder / f"{artifact.digest}.partial-{secrets.token_hex(4)}"
        try:
            async with self._files.local(artifact.key) as archive:
                answer = await self._run_extract(archive, partial)
            size_bytes = artifact.size_bytes + _stated(answer, "bytes")
            size_bytes += OVERHEAD_BYTES_PER_ENTRY * _stated(answer, "entries")
            partial.rename(path)
            path.with_suffix(".size").write_text(str(size_bytes))
        except BaseException:
            if partial.exists():
                await asyncio.shield(self._driver.remove_tree(str(partial)))
            raise
        return _Tree(path, size_bytes)

    async def _run_extract(self, archive: Path, target: Path) -> str:
        descriptor = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sandbox = await self._driver.start(self._extract_spec(descriptor, target))
        finally:
            os.close(descriptor)
        output = asyncio.ensure_future(collect_output(sandbox, OUTPUT_TAIL_BYTES))
        try:
            async with asyncio.timeout(self._limits.unpack_timeout_s):
                exit = await sandbox.wait()
                text = await output
        except TimeoutError as problem:
            raise BadArtifact(f"unpacking took more than {self._limits.unpack_timeout_s:g} s") from problem
        finally:
            await asyncio.shield(sandbox.kill())
            output.cancel()
            await asyncio.gather(output, return_exceptions=True)
            os.close(sandbox.output)
        answer = text.rstrip().rpartition("\n")[2]
        if exit.code == 0 and answer.startswith("ok "):
            return answer
        if exit.code == EXIT_BAD_ARCHIVE:
            raise BadArtifact(f"the artifact is a bad archive: {answer}")
        ended = f"exit code {exit.code}" if exit.signal is None else f"signal {exit.signal}"
        raise BadArtifact(f"unpacking the artifact failed ({ended}): {answer}")

    def _extract_spec(self, descriptor: int, target: Path) -> SandboxSpec:
        limits = self._limits
        argv = ["/usr/bin/python3", "-I", "-S", f"{SHIMS_INSIDE}/extract/extract.py", str(ARCHIVE_DESCRIPTOR)]
        argv += [TARGET_INSIDE, "--max-bytes", str(limits.unpack_max_bytes)]
        argv += ["--max-entries", str(limits.unpack_max_entries)]
        return SandboxSpec(
            id=f"extract-{secrets.token_hex(8)}",
            profile=Profile.EXTRACT,
            argv=argv,
            environment={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"},  # noqa: S108 - inside
            limits=Limits(memory_bytes=256 * MIB, cpus=1.0, pids=8, file_size_bytes=limits.unpack_max_bytes),
            mounts=(Mount(str(SHIMS_FOLDER), SHIMS_INSIDE), Mount(str(target), TARGET_INSIDE, writable=True)),
            descriptors={ARCHIVE_DESCRIPTOR: descriptor},
            channel=False,
        )

    def _evict(self) -> None:
        """Remove the least recently used trees that nobody uses, while all together are too large."""
        total = sum(tree.size_bytes for tree in self._trees.values())
        for digest, tree in list(self._trees.items()):
            if total <= self._limits.code_cache_bytes:
                return
            if tree.users:
                continue
            total -= tree.size_bytes
            del self._trees[digest]
            task = asyncio.create_task(self._remove(tree.path), name=f"evict {digest[:12]}")
            self._evicting.add(task)
            task.add_done_callback(self._evicting.discard)

    async def _remove(self, path: Path) -> None:
        gone = path.with_name(f"{path.name}.partial-{secrets.token_hex(4)}")
        try:
            path.with_suffix(".size").unlink(missing_ok=True)
            path.rename(gone)  # so that a new one may be unpacked while this one is being removed
            await self._driver.remove_tree(str(gone))
        except (OSError, SandboxFailed) as problem:  # the next start tries again; the cache works on
            log.warning("code_not_removed", path=str(path), error=str(problem))


def _stated(answer: str, name: str) -> int:
    """A number of the line `ok entries=<n> bytes=<n>`."""
    for word in answer.split():
        key, _, value = word.partition("=")
        if key == name and value.isdigit():
            return int(value)
    raise BadArtifact(f"an answer without {name}: {answer!r}")


async def collect_output(sandbox: Sandbox, keep_bytes: int) -> str:
    """Read the output of a sandbox to its end and return the last `keep_bytes` of it; does not close it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    kept = bytearray()

    def on_readable() -> None:
        try:
            data = os.read(sandbox.output, 64 * 1024)
        except BlockingIOError:
            return
        except OSError as problem:
            loop.remove_reader(sandbox.output)
            done.set_exception(problem)
            return
        if not data:
            loop.remove_reader(sandbox.output)
            done.set_result(None)
            return
        kept.extend(data)
        del kept[:-keep_bytes]

    loop.add_reader(sandbox.output, on_readable)
    try:
        await done
    finally:
        loop.remove_reader(sandbox.output)
    return kept.decode("utf-8", "replace")
