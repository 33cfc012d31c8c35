"""The compile step of `hearth dev`: what a build on a server does in its sandbox, as a plain process.

Each version of the code is compiled from a copy of its own, so that the one before serves until there is a new one, and
files that are written meanwhile count for the next. What compilers keep is kept between versions.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hearth.cli.client.packing import ALWAYS_IGNORED
from hearth.cli.client.problems import Problem
from hearth.cli.dev.processes import real_path
from hearth.cli.dev.program import Program
from hearth.executor.sandbox.spec import Mount
from hearth.runtimes.families import family_of
from hearth.runtimes.shims.build.checks import check_entrypoint
from hearth.runtimes.shims.build.languages import COMPILERS, compile_warning, language_environment
from hearth.runtimes.shims.build.layout import BuildFailed, Layout

#: Versions that are kept: the newest, and those whose requests may still run.
KEPT_VERSIONS = 3
#: Caches of the developer's own: unlike a build on a server, this one may use them.
_OWN_CACHES = ("GOPATH", "CARGO_HOME")
_NOT_COPIED = (*ALWAYS_IGNORED, "target")


def is_compiled(program: Program) -> bool:
    """Whether the code has to be compiled before it runs."""
    return family_of(program.pack.family).is_compiled


def compile_version(program: Program, cache: Path, variables: Mapping[str, str], number: int) -> Path:
    """Compile the function's files as they are; returns the folder to run. Blocks.

    `number` is another one for each version. What the compiler says goes to standard error, with paths as they are in
    the function's folder. Raises Problem where the code does not compile.
    """
    versions = cache / "versions"
    folder = versions / str(number)
    shutil.rmtree(versions if number == 1 else folder, ignore_errors=True)
    old = sorted((int(path.name) for path in versions.glob("*")), reverse=True)[KEPT_VERSIONS - 1 :]
    for each in old:
        shutil.rmtree(versions / str(each), ignore_errors=True)
    try:
        shutil.copytree(program.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        command, environment = _command(program, cache, folder, variables)
    except BuildFailed as error:
        raise Problem(error.message) from error
    except (OSError, shutil.Error) as error:
        raise Problem(f"The function's files cannot be copied to {folder}: {error}") from error
    code = _run(command, folder, environment)
    if code:
        raise Problem(f"The code does not compile (exit code {code}).")
    return folder


def _command(
    program: Program, cache: Path, folder: Path, variables: Mapping[str, str]
) -> tuple[str, Mapping[str, str]]:
    """What compiles, and its variables. Raises BuildFailed for code that no compiler has to see."""
    pack = program.pack
    layout = Layout(str(folder), str(cache / "compiler"))
    Path(layout.temporary).mkdir(parents=True, exist_ok=True)
    check_entrypoint(layout.build, program.entrypoint, pack.family)
    mounts = [Mount(source, target) for source, target in pack.mounts]
    interpreter = real_path(pack.interpreter, mounts)
    command = COMPILERS[pack.family](layout, layout.build, program.entrypoint, interpreter, pack.id)
    warning = compile_warning(layout, pack.family)
    if warning:
        print(warning, file=sys.stderr)
    language = language_environment(pack.family, layout, interpreter, {})
    path = ":".join((*(real_path(each, mounts) for each in pack.path), os.environ.get("PATH", "")))
    environment = {
        **os.environ,
        "GOCACHE": str(Path(layout.home) / ".cache" / "go-build"),
        **{name: value for name, value in language.items() if name not in _OWN_CACHES},
        **variables,
        "PATH": path,
    }
    return command, environment


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> int:
    bash = shutil.which("bash")
    if bash is None:
        raise Problem("Compiling needs bash, which is not installed here.")
    with subprocess.Popen(
        [bash, "-c", command],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for
        for line in process.stdout:
            print(line.replace(f"{folder}/", ""), end="", file=sys.stderr, flush=True)
        return process.wait()
