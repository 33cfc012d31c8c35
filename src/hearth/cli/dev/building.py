"""The build step of `hearth dev`: the function's commands in its folder, when what they depend on has changed.

Packages of Python go into an environment in this user's cache folder, those of other languages where their package
manager puts them, which is the function's folder.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hearth.cli.client.problems import Problem
from hearth.cli.dev.processes import real_path
from hearth.cli.dev.program import MANIFESTS, Program
from hearth.executor.sandbox.spec import Mount
from hearth.runtimes.shims.build.layout import BuildFailed, Layout
from hearth.runtimes.shims.build.prepare import VENV, make_venv

_STAMP = "built"


def cache_folder(program: Program, environment: Mapping[str, str]) -> Path:
    """What is kept for one function's folder between two starts (XDG base directories)."""
    base = environment.get("XDG_CACHE_HOME", "")
    home = Path(base) if base else Path(environment.get("HOME", "~")).expanduser() / ".cache"
    name = hashlib.sha256(f"{program.folder}\0{program.pack.id}".encode()).hexdigest()[:16]
    folder = home / "hearth" / "dev" / name
    (folder / "server").mkdir(parents=True, exist_ok=True)
    return folder


def inputs_digest(program: Program) -> str:
    """Stands for everything a build depends on."""
    digest = hashlib.sha256(f"{program.pack.id}\0{program.pack.version}\0{program.commands}".encode())
    for name in MANIFESTS:
        path = program.folder / name
        if path.is_file():
            digest.update(f"\0{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def build(program: Program, cache: Path, variables: Mapping[str, str]) -> bool:
    """Run the commands if they have to be; their output goes to standard error. Whether they ran.

    Raises Problem when they fail; the next call tries again.
    """
    stamp = cache / _STAMP
    digest = inputs_digest(program)
    if not program.commands or (stamp.is_file() and stamp.read_text(encoding="utf-8") == digest):
        return False
    stamp.unlink(missing_ok=True)
    bash = shutil.which("bash")
    if bash is None:
        raise Problem("Build commands need bash, which is not installed here.")
    environment = {**os.environ, **variables, **_language(program, cache)}
    print(f"$ {program.commands}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [bash, "-c", program.commands],
        cwd=program.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise Problem(f"The build commands ended with exit code {done.returncode}.")
    stamp.write_text(inputs_digest(program), encoding="utf-8")  # a lock file may be new
    return True


def packages_of(program: Program, cache: Path) -> Path | None:
    """The folder of installed Python packages, None if there is none."""
    if program.pack.family != "python":
        return None
    return next(iter((cache / VENV / "lib").glob("python*/site-packages")), None)


def _language(program: Program, cache: Path) -> dict[str, str]:
    """Variables of the commands: the runtime's own programs come first."""
    mounts = [Mount(source, target) for source, target in program.pack.mounts]
    path = ":".join((*(real_path(folder, mounts) for folder in program.pack.path), os.environ.get("PATH", "")))
    if program.pack.family != "python":
        return {"PATH": path}
    (cache / "home").mkdir(exist_ok=True)
    try:
        venv = make_venv(Layout(str(cache), str(cache / "home")), real_path(program.pack.interpreter, mounts))
    except BuildFailed as error:
        raise Problem(error.message) from error
    if venv.warning:
        print(venv.warning, file=sys.stderr)
    return {"PATH": f"{venv.folder}/bin:{path}", "VIRTUAL_ENV": venv.folder}
