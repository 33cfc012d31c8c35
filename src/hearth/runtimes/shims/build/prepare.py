"""The steps before the user's commands: is there a source, and what a language needs beside it."""

from __future__ import annotations

import glob
import json
import os
import subprocess
from dataclasses import dataclass, field

from .layout import BuildFailed, Layout

#: The virtual environment of a Python build; its packages are found there at run time (contract: runtime-contract 7).
VENV = "runtime-env"
PROBE_TIMEOUT_S = 30.0

_WHERE_IS_PIP = (
    "import importlib.util,json,sys;s=importlib.util.find_spec('pip');"
    "print(json.dumps([list(sys.version_info[:3]),s.submodule_search_locations[0] if s else '']))"
)
_PIP_SCRIPT = """#!{python}
import sys
from pip._internal.cli.main import main
sys.exit(main())
"""
_ACTIVATE = """# source this file to put the build's virtual environment on PATH (it already is, in build commands)
VIRTUAL_ENV={venv}
PATH="$VIRTUAL_ENV/bin:$PATH"
export VIRTUAL_ENV PATH
unset PYTHONHOME
"""


def check_source(layout: Layout) -> None:
    """Raise BuildFailed if the archive held nothing; make the folders a build expects."""
    if not os.listdir(layout.build):
        raise BuildFailed("source", "Error: No source code found. Ensure your source isn't empty.")
    os.makedirs(layout.temporary, exist_ok=True)


def link_npm(layout: Layout, interpreter: str) -> str:
    """A folder with `npm` and `npx` of the runtime, for PATH; `""` if its prefix has a `bin` with npm, or no npm.

    Where only parts of a prefix are shown, its links to npm are not among them.
    """
    prefix = os.path.dirname(os.path.dirname(interpreter))
    programs = os.path.join(prefix, "lib", "node_modules", "npm", "bin")
    if os.path.exists(os.path.join(prefix, "bin", "npm")) or not os.path.isdir(programs):
        return ""
    folder = os.path.join(layout.home, ".npm-of-the-runtime")
    os.makedirs(folder, exist_ok=True)
    for name in ("npm", "npx"):
        link = os.path.join(folder, name)
        if not os.path.lexists(link):
            os.symlink(os.path.join(programs, f"{name}-cli.js"), link)
    return folder


@dataclass
class Venv:
    """The virtual environment of one Python build; `warning` says what it lacks."""

    folder: str
    warning: str = ""
    plumbing: list[str] = field(default_factory=list)
    """Files that serve the build only."""

    def remove_plumbing(self) -> None:
        """Take out what only the build needed, so that the artifact holds installed packages and nothing of ours."""
        for path in self.plumbing:
            if os.path.lexists(path):
                os.remove(path)


def make_venv(layout: Layout, interpreter: str) -> Venv:
    """Create `runtime-env` in the build area with the machine's pip importable in it.

    Written by hand, since `venv` needs a second to install pip and 100 ms without; this takes 30. Both `pip` and
    `python -m pip` install into it. Raises BuildFailed if the interpreter does not start.
    """
    folder = os.path.join(layout.build, VENV)
    version, pip = _ask(interpreter)
    series = f"{version[0]}.{version[1]}"
    bin_folder = os.path.join(folder, "bin")
    packages = os.path.join(folder, "lib", f"python{series}", "site-packages")
    os.makedirs(bin_folder, exist_ok=True)
    os.makedirs(packages, exist_ok=True)
    venv = Venv(folder)
    home = os.path.dirname(interpreter)
    _write(
        os.path.join(folder, "pyvenv.cfg"),
        f"home = {home}\ninclude-system-site-packages = false\nversion = {'.'.join(map(str, version))}\n",
    )
    for name in ("python", "python3", f"python{series}"):
        link = os.path.join(bin_folder, name)
        if os.path.lexists(link):
            os.remove(link)
        os.symlink(interpreter, link)
        venv.plumbing.append(link)
    activate = os.path.join(bin_folder, "activate")
    _write(activate, _ACTIVATE.format(venv=folder))
    venv.plumbing.append(activate)
    importable = _importable_pip(layout, pip, interpreter)
    if importable is None:
        venv.warning = "pip is not installed on this server for this Python version: build commands cannot use it."
        return venv
    path_file = os.path.join(packages, "_build_pip.pth")
    _write(path_file, importable + "\n")
    venv.plumbing.append(path_file)
    for name in ("pip", "pip3", f"pip{series}"):
        script = os.path.join(bin_folder, name)
        _write(script, _PIP_SCRIPT.format(python=os.path.join(bin_folder, "python")))
        os.chmod(script, 0o755)
        venv.plumbing.append(script)
    return venv


def _ask(interpreter: str) -> tuple[list[int], str]:
    """The version of an interpreter and the folder of its pip package (`""` if it has none)."""
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", _WHERE_IS_PIP],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
        version, pip = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        why = said.decode("utf-8", "replace").strip().splitlines()[-1:]
        message = f"The interpreter of this runtime, {interpreter}, does not start: {''.join(why)}"
        raise BuildFailed("runtime", f"{message}. The operator of this server has to repair it.") from error
    return version, pip


def _importable_pip(layout: Layout, pip: str, interpreter: str) -> str | None:
    """A folder (or wheel) that holds pip and nothing else of the machine's packages."""
    if pip:
        folder = os.path.join(layout.home, ".pip-of-the-runtime")
        os.makedirs(folder, exist_ok=True)
        for path in [pip, *glob.glob(os.path.join(os.path.dirname(pip), "pip-*.dist-info"))]:
            link = os.path.join(folder, os.path.basename(path))
            if not os.path.lexists(link):
                os.symlink(path, link)
        return folder
    prefix = os.path.dirname(os.path.dirname(interpreter))
    for pattern in (f"{prefix}/lib/python3*/ensurepip/_bundled/pip-*.whl", f"{prefix}/share/python-wheels/pip-*.whl"):
        wheels = sorted(glob.glob(pattern))
        if wheels:
            return wheels[-1]
    return None


def _write(path: str, text: str) -> None:
    if os.path.lexists(path):
        os.remove(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
