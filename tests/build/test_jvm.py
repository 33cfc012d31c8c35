"""The command that compiles Kotlin, and what the shim is told, beside what compilations in sandboxes show."""

import shlex
from pathlib import Path

import pytest

from hearth.runtimes.shims.build import jvm
from hearth.runtimes.shims.build.layout import BuildFailed, Layout


@pytest.fixture
def kotlin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a pack has it: the compiler stands in for an older language."""
    folder = tmp_path / "kotlin/1.8"
    folder.mkdir(parents=True)
    for name in ("annotations-13.0.jar", "kernel-1-all.jar", "kotlin-reflect-1.9.23.jar", "kotlin-stdlib-1.9.23.jar"):
        (folder / name).touch()
    monkeypatch.setattr(jvm, "KOTLIN", str(folder.parent))
    return folder


def compiled(layout: Layout, entrypoint: str) -> tuple[str, list[str]]:
    """The command and the words it finds in its file."""
    command = jvm.compile_kotlin(layout, layout.build, entrypoint, "/kit/bin/java")
    return command, shlex.split(Path(layout.home, "kotlin-arguments").read_text())


def test_kotlin_is_compiled_as_the_language_of_the_runtime(layout: Layout, kotlin: Path) -> None:
    """With the types of its handlers, which are sources of ours; the shim is told class and libraries."""
    Path(layout.build, "src").mkdir()
    Path(layout.build, "src/Main.kt").write_text("// package no\npackage shop.front\n\nobject Main\n")
    Path(layout.build, "a b.kt").write_text("class A")
    Path(layout.build, "lib.jar").touch()
    command, words = compiled(layout, "src/Main.kt")
    assert f"-cp {kotlin}/kernel-1-all.jar org.jetbrains.kotlin.cli.jvm.K2JVMCompiler" in command
    assert "javac" not in command
    assert words[words.index("-language-version") + 1] == words[words.index("-api-version") + 1] == "1.8"
    assert {"a b.kt", "src/Main.kt", f"{jvm.KOTLIN_TYPES}/RuntimeContext.kt"} < set(words)
    told = Path(layout.build, ".hearth/handler").read_text().splitlines()
    libraries = [f"{kotlin}/kotlin-reflect-1.9.23.jar", f"{kotlin}/kotlin-stdlib-1.9.23.jar"]
    assert told[:4] == ["shop.front.Main", "lib.jar", *libraries]
    assert words[words.index("-cp") + 1].split(":")[:4] == [jvm.JAR, "lib.jar", *libraries]


def test_java_beside_kotlin_is_compiled_behind_it(layout: Layout, kotlin: Path) -> None:
    Path(layout.build, "Index.kt").write_text("class Index")
    Path(layout.build, "More.java").write_text("class More { }")
    command, words = compiled(layout, "Index.kt")
    assert "More.java" in words, "Kotlin may use it"
    assert "kotlin-arguments && /kit/bin/javac -encoding" in command
    assert f":{layout.build}/.hearth/classes @" in command, "Java may use Kotlin"
    assert Path(layout.home, "java-sources").read_text() == '"More.java"\n'


def test_a_system_without_the_compiler_is_named(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jvm, "KOTLIN", f"{tmp_path}/none")
    Path(layout.build, "Index.kt").write_text("class Index")
    with pytest.raises(BuildFailed, match="there is no Kotlin compiler"):
        jvm.compile_kotlin(layout, layout.build, "Index.kt", "/kit/bin/java")
