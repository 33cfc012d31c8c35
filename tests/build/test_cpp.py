"""How a C++ function is compiled: by the compiler itself, or as its own CMakeLists.txt says."""

import shlex
from pathlib import Path

import pytest

from hearth.runtimes.families import family_of
from hearth.runtimes.shims.build.cpp import compile_command
from hearth.runtimes.shims.build.layout import BuildFailed, Layout


def test_the_runtime_is_the_standard(layout: Layout) -> None:
    command = compile_command(layout, layout.build, "src/./index.cc", "/no/g++", "cpp-20")
    assert "-std=c++20" in shlex.split(command, comments=False)
    handler = Path(layout.home, ".hearth-cpp", "handler.cc").read_text("utf-8")
    assert '#include "src/index.cc"' in handler
    assert "ENTRYPOINT" not in handler


def test_a_cmake_file_goes_on_where_ours_ends(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(layout.build, "CMakeLists.txt").write_text("")
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/bin/cmake")
    command = compile_command(layout, layout.build, "index.cc", "/no/g++", "cpp-17")
    assert "-DCMAKE_CXX_COMPILER=/no/g++" in command
    ours = Path(layout.home, ".hearth-cpp", "CMakeLists.txt").read_text("utf-8")
    assert "set(CMAKE_CXX_STANDARD 17)" in ours
    assert ours.endswith(f'include("{layout.build}/CMakeLists.txt")\n')


def test_without_cmake_its_file_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(layout.build, "CMakeLists.txt").write_text("")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(BuildFailed, match="there is no cmake here"):
        compile_command(layout, layout.build, "index.cc", "g++", "cpp-17")


@pytest.mark.parametrize(
    ("wanted", "version", "expected"),
    [
        ("17", "12.2.0", True),
        ("20", "12.2.0", True),
        ("17", "7.5.0", False),
        ("20", "10.2.1", False),
        ("26", "16.1.0", False),
    ],
)
def test_a_compiler_is_every_standard_it_knows(wanted: str, version: str, expected: bool) -> None:
    assert family_of("cpp").is_served_by(wanted, version) is expected
