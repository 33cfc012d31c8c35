"""What a build of Go begins with, beside what its compilation in a sandbox shows."""

from pathlib import Path

from hearth.runtimes.shims.build.golang import PREBUILT, seed_cache
from hearth.runtimes.shims.build.languages import compiler_installs
from hearth.runtimes.shims.build.layout import Layout


def test_a_build_begins_with_what_was_compiled_ahead(tmp_path: Path) -> None:
    """By links; those of another pack that were restored are made anew, what an earlier build compiled stays."""
    layout = Layout(build=f"{tmp_path}/build", home=f"{tmp_path}/home")
    prebuilt = tmp_path / "go" / PREBUILT
    for name in ("0a/0a1-d", "ff/ff1-a"):
        (prebuilt / name).parent.mkdir(parents=True)
        (prebuilt / name).write_text("ahead")
    (prebuilt / "trim.txt").write_text("1")
    own = tmp_path / "home/.cache/go-build"
    (own / "0a").mkdir(parents=True)
    (own / "0a/0a1-d").symlink_to("/nonexistent/0a1-d")
    (own / "0a/gone").symlink_to("/nonexistent/gone")
    (own / "0a/mine").write_text("mine")
    seed_cache(layout, f"{tmp_path}/go/bin/go")
    found = {str(path.relative_to(own)): path.read_text() for path in own.rglob("*") if path.is_file()}
    assert found == {"0a/0a1-d": "ahead", "0a/mine": "mine", "ff/ff1-a": "ahead"}
    assert not (own / "0a/gone").is_symlink()
    seed_cache(layout, f"{tmp_path}/other/bin/go")
    assert [path.name for path in own.rglob("*") if path.is_file()] == ["mine"]


def test_only_code_with_requirements_has_modules_worth_keeping(tmp_path: Path) -> None:
    layout = Layout(build=str(tmp_path), home=f"{tmp_path}/home")
    assert not compiler_installs(layout, "go")
    (tmp_path / "go.sum").write_text("")
    assert compiler_installs(layout, "go")
    assert not compiler_installs(layout, "java")
