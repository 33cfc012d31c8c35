"""Compiles a Java or Kotlin function with its own compiler; its classes are loaded by a machine that is up already.

Every `.java` file of the source belongs to it (and every `.kt` file, for Kotlin), as in the reference, and every `.jar`
file is on its class path. What the shim has to know is in `.hearth/handler`: the handler's class, then the jars, one a
line.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from .layout import BuildFailed, Layout

#: Where the classes and what the shim reads go, relative to the output (see Handler.java).
FOLDER = ".hearth"
#: Our own classes and those of the handlers' types; beside this package.
JAR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "java", "hearth.jar")
#: The reference has this library on the class path of every function, and handlers use it.
SYSTEM_JARS = ("/usr/share/java/gson.jar",)
#: Where packs of Kotlin have its compiler: in a folder that is called like the version of the language.
KOTLIN = "/usr/share/kotlin"
#: The sources of the types of Kotlin handlers; beside this package.
KOTLIN_TYPES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kotlin")
_KOTLIN_COMPILER = "-all.jar"
_KOTLIN_LIBRARIES = ("kotlin-stdlib-", "kotlin-reflect-")
_FILES_MAX = 20_000
_PACKAGE = re.compile(r"^\s*package\s+([\w.]+)\s*;?", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def compile_command(layout: Layout, output: str, entrypoint: str, interpreter: str, _runtime: str = "") -> str:
    """Write what the shim reads and return the command that compiles into `output`. Raises BuildFailed."""
    compiler = os.path.join(os.path.dirname(interpreter), "javac")
    if not os.path.exists(compiler):
        raise BuildFailed("runtime", f"{compiler} is missing: this Java can run programs and not compile them.")
    code = _prepared(layout, output, entrypoint, [path for path in SYSTEM_JARS if os.path.exists(path)])
    return _javac(layout, compiler, code, [JAR, *code.jars])


def compile_kotlin(layout: Layout, output: str, entrypoint: str, interpreter: str, _runtime: str = "") -> str:
    """The same for Kotlin; `.java` files are compiled behind the `.kt` files, and may be used by them.

    The types of handlers are compiled with the handler, by the compiler of its version.
    """
    series, home = _kotlin_home()
    libraries = [os.path.join(home, name) for name in sorted(os.listdir(home)) if name.startswith(_KOTLIN_LIBRARIES)]
    libraries += [path for path in SYSTEM_JARS if os.path.exists(path)]
    code = _prepared(layout, output, entrypoint, libraries)
    path = [JAR, *code.jars]
    types = [os.path.join(KOTLIN_TYPES, name) for name in sorted(os.listdir(KOTLIN_TYPES)) if name.endswith(".kt")]
    arguments = os.path.join(layout.home, "kotlin-arguments")
    options = ["-no-stdlib", "-no-reflect", "-Xsuppress-version-warnings", "-java-parameters", "-jvm-target", "17"]
    # A compiler that stands in for an older one is told to be as that one.
    options += ["-language-version", series, "-api-version", series, "-d", code.classes]
    options += ["-cp", os.pathsep.join(path), *types, *(name for name in code.names if name.endswith((".kt", ".java")))]
    _write(arguments, [_quoted(word) for word in options])
    # What a machine does to become fast in the end takes longer than what the compiler does: it runs once.
    machine = [interpreter, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    compiler = os.path.join(home, next(name for name in os.listdir(home) if name.endswith(_KOTLIN_COMPILER)))
    command = shlex.join([*machine, "-cp", compiler, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", f"@{arguments}"])
    if not any(name.endswith(".java") for name in code.names):
        return command
    javac = os.path.join(os.path.dirname(interpreter), "javac")
    return f"{command} && {_javac(layout, javac, code, [*path, code.classes])}"


def _kotlin_home() -> tuple[str, str]:
    """The language version and the folder of the Kotlin compiler. Raises BuildFailed."""
    found = sorted(os.listdir(KOTLIN)) if os.path.isdir(KOTLIN) else []
    if not found:
        raise BuildFailed("runtime", f"{KOTLIN} is missing: there is no Kotlin compiler.")
    return found[0], os.path.join(KOTLIN, found[0])


@dataclass(frozen=True)
class _Code:
    """Files of a function, relative to it, all jars it uses, and where its classes go."""

    names: list[str]
    jars: list[str]
    classes: str


def _prepared(layout: Layout, output: str, entrypoint: str, libraries: list[str]) -> _Code:
    """Look at the source and write what the shim reads. Raises BuildFailed."""
    own = os.path.join(output, FOLDER)
    names = list(_files(layout.build))
    jars = [name for name in names if name.endswith(".jar")]
    shown = [os.path.relpath(os.path.join(layout.build, name), output) for name in jars]
    if any(name.startswith("../") for name in shown):
        raise BuildFailed(
            "output", "Jar files have to be in the output directory: the function needs them when it runs."
        )
    if any("\n" in name for name in names):
        raise BuildFailed("source", "The name of a file has a line break.")
    os.makedirs(os.path.join(own, "classes"), exist_ok=True)
    _write(os.path.join(own, "handler"), [handler_class(layout.build, entrypoint), *shown, *libraries])
    return _Code(names, [*jars, *libraries], os.path.join(own, "classes"))


def _javac(layout: Layout, compiler: str, code: _Code, path: list[str]) -> str:
    """The command that compiles the `.java` files."""
    arguments = os.path.join(layout.home, "java-sources")
    _write(arguments, [_quoted(name) for name in code.names if name.endswith(".java")])
    words = [compiler, "-encoding", "UTF-8", "-nowarn", "-parameters", "-d", code.classes]
    return shlex.join([*words, "-cp", os.pathsep.join(path), f"@{arguments}"])


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
