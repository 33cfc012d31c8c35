"""Compiles a Java function with its own compiler; its classes are loaded by a machine that is up already.

Every `.java` file of the source belongs to it, as in the reference, and every `.jar` file is on its class path. What
the shim has to know is in `.hearth/handler`: the handler's class, then the jars, one a line.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator

from .layout import BuildFailed, Layout

#: Where the classes and what the shim reads go, relative to the output (see Handler.java).
FOLDER = ".hearth"
#: Our own classes and those of the handlers' types; beside this package.
JAR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "java", "hearth.jar")
#: The reference has this library on the class path of every function, and handlers use it.
SYSTEM_JARS = ("/usr/share/java/gson.jar",)
_FILES_MAX = 20_000
_PACKAGE = re.compile(r"^\s*package\s+([\w.]+)\s*;?", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def compile_command(layout: Layout, output: str, entrypoint: str, interpreter: str) -> str:
    """Write what the shim reads and return the command that compiles into `output`. Raises BuildFailed."""
    compiler = os.path.join(os.path.dirname(interpreter), "javac")
    if not os.path.exists(compiler):
        raise BuildFailed("runtime", f"{compiler} is missing: this Java can run programs and not compile them.")
    own = os.path.join(output, FOLDER)
    names = list(_files(layout.build))
    sources = [name for name in names if name.endswith(".java")]
    jars = [name for name in names if name.endswith(".jar")]
    shown = [os.path.relpath(os.path.join(layout.build, name), output) for name in jars]
    if any(name.startswith("../") for name in shown):
        raise BuildFailed(
            "output", "Jar files have to be in the output directory: the function needs them when it runs."
        )
    if any("\n" in name for name in names):
        raise BuildFailed("source", "The name of a file has a line break.")
    os.makedirs(os.path.join(own, "classes"), exist_ok=True)
    libraries = [path for path in SYSTEM_JARS if os.path.exists(path)]
    _write(os.path.join(own, "handler"), [handler_class(layout.build, entrypoint), *shown, *libraries])
    arguments = os.path.join(layout.home, "java-sources")
    _write(arguments, [_quoted(name) for name in sources])
    words = [compiler, "-encoding", "UTF-8", "-nowarn", "-parameters", "-d", os.path.join(own, "classes")]
    words += ["-cp", os.pathsep.join([JAR, *jars, *libraries]), f"@{arguments}"]
    return shlex.join(words)


def handler_class(build: str, entrypoint: str) -> str:
    """The class of the entrypoint: named like its file, in the package that the file states."""
    with open(os.path.join(build, entrypoint), encoding="utf-8", errors="replace") as file:
        found = _PACKAGE.search(_COMMENT.sub(" ", file.read()))
    name = os.path.basename(entrypoint).rpartition(".")[0]
    return f"{found.group(1)}.{name}" if found else name


def gradle_warning(build: str) -> str:
    """What to tell about files of a build tool that is not there, `""` if there are none."""
    found = [name for name in _files(build) if name.endswith((".gradle", ".gradle.kts")) or name == "pom.xml"]
    if not found:
        return ""
    return (
        f"{found[0]} is not used: there is no Gradle and no Maven here. Put the jar files of dependencies into the "
        "function's folder (or let the build commands do it): every .jar file is on the class path."
    )


def _files(build: str) -> Iterator[str]:
    """Every file of the source, sorted, relative to it; folders with a dot before their names excepted."""
    seen = 0
    for folder, folders, files in os.walk(build):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            seen += 1
            if seen > _FILES_MAX:
                raise BuildFailed("source", f"The function has more than {_FILES_MAX:,} files.")
            yield os.path.relpath(os.path.join(folder, name), build)


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write(path: str, lines: list[str]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
