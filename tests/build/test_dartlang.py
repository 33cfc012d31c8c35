"""The command that compiles Dart, and what it is given, beside what compilations in sandboxes show."""

import json
from pathlib import Path

import pytest

from hearth.runtimes.shims.build import dartlang
from hearth.runtimes.shims.build.layout import BuildFailed, Layout


def compiled(layout: Layout, entrypoint: str) -> tuple[str, str]:
    """The command, and the program's beginning that it compiles."""
    command = dartlang.compile_command(layout, layout.build, entrypoint, "/sdk/dart")
    return command, Path(layout.home, "hearth-main.dart").read_text()


def test_a_file_without_packages_is_in_the_language_of_the_runtime(layout: Layout) -> None:
    """Later ones refuse `main(final context)`. Names of files mean nothing to the compiler."""
    command, main = compiled(layout, "src/a$b.dart")
    assert f'import "file://{layout.build}/src/a\\$b.dart" as handler;' in main
    assert " pub get" not in command
    assert f"--packages={layout.home}/hearth-packages.json" in command
    [package] = json.loads(Path(layout.home, "hearth-packages.json").read_text())["packages"]
    assert (package["rootUri"], package["languageVersion"]) == (f"file://{layout.build}", "3.11")


def test_a_package_is_compiled_with_what_it_requires(layout: Layout) -> None:
    """Its libraries are imported as they import each other; what build commands have fetched is not fetched again."""
    Path(layout.build, "pubspec.yaml").write_text("# name: no\nname: 'shop_front'\nenvironment:\n  sdk: ^3.0.0\n")
    command, main = compiled(layout, "./lib/src/main.dart")
    assert 'import "package:shop_front/src/main.dart" as handler;' in main
    assert command.startswith("/sdk/dart --suppress-analytics pub get && ")
    assert f"--packages={dartlang.PACKAGES} -o {layout.build}/.hearth/handler" in command
    Path(layout.build, ".dart_tool").mkdir()
    Path(layout.build, dartlang.PACKAGES).touch()
    command, main = compiled(layout, "bin/main.dart")
    assert f'import "file://{layout.build}/bin/main.dart" as handler;' in main
    assert " pub get" not in command


def test_a_pubspec_without_a_name_is_refused(layout: Layout) -> None:
    Path(layout.build, "pubspec.yaml").write_text("description: x\n")
    with pytest.raises(BuildFailed, match="names no package"):
        compiled(layout, "lib/main.dart")
