"""Compiles a C++ function together with our server into one program (contract: runtime-contract 7, hook `compile`).

As in the reference the entrypoint is included into a file of ours, and other sources belong to it only if a
`CMakeLists.txt` of the function says so, which then goes on where ours ends: its target is `cpp_runtime`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

from .layout import BuildFailed, Layout, own_file
from .prepare import PROBE_TIMEOUT_S

#: The program, relative to the output (see `hearth.runtimes.families.BINARY`).
BINARY = ".hearth/handler"
#: Where our sources are: files of this package's sibling folder.
SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "cpp")
CMAKE_FILE = "CMakeLists.txt"
_TARGET = "cpp_runtime"
#: Linked where the system has them, because the reference has: the first one is ours too.
_LIBRARIES = ("jsoncpp", "curl", "ssl", "crypto", "z", "uuid")
_JSON_HEADERS = "/usr/include/jsoncpp"
#: Line tables, so that the stack of an exception can name the user's lines.
_FLAGS = ("-O2", "-g1", "-pthread", "-fno-omit-frame-pointer")


def compile_command(layout: Layout, output: str, entrypoint: str, interpreter: str, runtime: str) -> str:
    """Prepare everything and return the command that compiles into `output`. Raises BuildFailed without CMake.

    `runtime` says the standard: `cpp-17`.
    """
    work = os.path.join(layout.home, ".hearth-cpp")
    os.makedirs(work, exist_ok=True)
    with open(os.path.join(SOURCES, "instance", "handler.cc.in"), encoding="utf-8") as file:
        handler = file.read().replace("ENTRYPOINT", os.path.normpath(entrypoint))
    sources = [own_file(work, "handler.cc", handler), os.path.join(SOURCES, "instance", "all.cc")]
    standard = runtime.partition("-")[2]
    libraries = [name for name in _LIBRARIES if name == "jsoncpp" or _is_library(interpreter, name)]
    # Stacks show the user's files relative to his folder, and none of ours.
    folders = (f"{layout.build}=.", f"{work}=/hearth", f"{SOURCES}=/hearth")
    flags = [*_FLAGS, *(f"-ffile-prefix-map={folder}" for folder in folders)]
    includes = [os.path.join(SOURCES, "include"), layout.build, _JSON_HEADERS]
    program = os.path.join(output, BINARY)
    if os.path.isfile(os.path.join(layout.build, CMAKE_FILE)):
        return _with_cmake(layout, work, interpreter, standard, sources, flags, includes, libraries, program)
    common = [interpreter, f"-std=c++{standard}", *flags, *(f"-I{folder}" for folder in includes)]
    # The handler first: what is wrong in it is told at once. The rest is compiled beside it.
    objects = [os.path.join(work, f"{os.path.basename(source)}.o") for source in sources]
    theirs, ours = (
        shlex.join([*common, "-c", source, "-o", made])
        for source, made in zip(sources, objects)  # noqa: B905 - Python 3.9 has no `strict`
    )
    link = [interpreter, "-pthread", *objects, "-Wl,--as-needed", *(f"-l{name}" for name in libraries), "-ldl"]
    return "\n".join(
        (
            "set -e",
            shlex.join(["mkdir", "-p", os.path.dirname(program)]),
            f"{ours} & ours=$!",
            f'{theirs} || {{ kill "$ours"; wait; exit 1; }}',
            'wait "$ours"',
            shlex.join([*link, "-o", program]),
        )
    )


def _with_cmake(
    layout: Layout,
    work: str,
    interpreter: str,
    standard: str,
    sources: list[str],
    flags: list[str],
    includes: list[str],
    libraries: list[str],
    program: str,
) -> str:
    """The command that builds by the function's own CMakeLists.txt, which finds its files in `src`, as there."""
    cmake = shutil.which("cmake", path="/usr/bin:/bin")
    if cmake is None:
        raise BuildFailed(
            "runtime",
            f"The function has a {CMAKE_FILE} and there is no cmake here. Install a pack of the runtime "
            "(`hearth runtimes install`), or cmake on the machine, or leave the file out.",
        )
    link = os.path.join(work, "src")
    if os.path.islink(link):
        os.unlink(link)
    os.symlink(layout.build, link)
    quoted = {name: " ".join(f'"{word}"' for word in words) for name, words in
              {"sources": sources, "flags": flags, "includes": includes}.items()}  # fmt: skip
    own_file(
        work,
        CMAKE_FILE,
        f"""cmake_minimum_required(VERSION 3.18)
project({_TARGET} CXX)
set(CMAKE_CXX_STANDARD {standard})
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
add_executable({_TARGET} {quoted["sources"]})
target_compile_options({_TARGET} PRIVATE {quoted["flags"]})
target_include_directories({_TARGET} PRIVATE {quoted["includes"]})
target_link_libraries({_TARGET} PUBLIC -Wl,--as-needed {" ".join(libraries)} dl pthread)
set_target_properties({_TARGET} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${{CMAKE_BINARY_DIR}}")
include("{os.path.join(layout.build, CMAKE_FILE)}")
""",
    )
    made = os.path.join(work, "made")
    steps = (
        [cmake, "-S", work, "-B", made, f"-DCMAKE_CXX_COMPILER={interpreter}", "-DCMAKE_BUILD_TYPE=None"],
        [cmake, "--build", made, "--parallel", str(os.cpu_count() or 1), "--target", _TARGET],
        ["mkdir", "-p", os.path.dirname(program)],
        ["mv", os.path.join(made, _TARGET), program],
    )
    return " && ".join(shlex.join(step) for step in steps)


def _is_library(interpreter: str, name: str) -> bool:
    """Whether the compiler finds a library to link: it then tells the whole path of it."""
    try:
        done = subprocess.run(
            [interpreter, f"-print-file-name=lib{name}.so"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return os.path.isabs(done.stdout.decode().strip())
