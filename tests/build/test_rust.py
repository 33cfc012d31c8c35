"""The manifests that Cargo sees of a Rust function, and the crates it is given."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hearth.runtimes.shims.build import rust
from hearth.runtimes.shims.build.languages import compiler_installs
from hearth.runtimes.shims.build.layout import BuildFailed, Layout

OURS = {"path": "/types", "package": "openruntimes"}


@pytest.mark.parametrize(
    "wanted",
    [
        {"openruntimes": "1.0"},
        {"openruntimes": {"path": "/mnt/code/types-for-rust"}},
        {"openruntimes": {"version": "1.0", "package": "openruntimes-types-for-rust"}},
        {"openruntimes": {"version": "1.0", "package": "chiragagg5k-openruntimes-types-for-rust"}},
    ],
)
def test_the_types_are_ours_however_they_are_named(wanted: dict[str, Any]) -> None:
    made = rust.handler_manifest({"dependencies": {**wanted, "rand": "0.8"}}, "main.rs", "/types")
    assert made["dependencies"] == {"openruntimes": OURS, "rand": "0.8"}


def test_the_entrypoint_is_the_library_whatever_the_manifest_says() -> None:
    given = {
        "package": {"name": "shop", "version": "2.0.0", "edition": "2018"},
        "lib": {"name": "other", "path": "lib.rs", "crate-type": ["cdylib"], "doctest": False},
        "profile": {"release": {"lto": True, "panic": "abort"}},
        "patch": {"crates-io": {"rand": {"path": "rand"}}},
    }
    made = rust.handler_manifest(given, "src/./app.rs", "/types")
    assert made["lib"] == {"name": "handler", "path": "src/app.rs", "doctest": False}
    assert made["package"]["name"] == "shop"
    assert not {"profile", "patch"} & set(made)
    server = rust.server_manifest(given, "/types")
    assert server["dependencies"]["handler"] == {"path": "hearth-function", "package": "shop"}
    assert server["profile"]["release"] == {"debug": "line-tables-only", "lto": True, "panic": "unwind"}
    assert server["patch"] == given["patch"]


def test_a_document_is_read_back_as_it_was_written() -> None:
    document = {
        "a b": 'quoted "text"\n\\ \x7f é',
        "list": [1, 2.5, True, [], {"x": "y"}],
        "table": {"empty": {}, "inner.name": {"deep": [{"a": 1}]}},
    }
    assert tomllib.loads(rust.toml(document)) == document


def test_the_source_is_seen_by_links_and_stays_as_it_is(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    build, function = Path(layout.build), Path(layout.home, ".hearth-rust", "hearth-function")
    (build / "main.rs").write_text("")
    (build / "Cargo.toml").write_text("[package]\nname = 'handler'\n")
    monkeypatch.setattr(rust, "SYSTEM_CRATES", str(build))
    for _ in range(2):  # also where an earlier one was
        command = rust.compile_command(layout, layout.build, "main.rs", "/usr/bin/cargo")
    assert "--offline" in command
    assert (function / "main.rs").readlink() == build / "main.rs"
    assert "openruntimes" in (function / "Cargo.toml").read_text()
    assert (build / "Cargo.toml").read_text() == "[package]\nname = 'handler'\n"
    (build / ".cargo").mkdir()
    (build / ".cargo" / "config.toml").write_text("")
    assert "--offline" not in rust.compile_command(layout, layout.build, "main.rs", "/usr/bin/cargo")


def test_a_manifest_that_cannot_be_read_fails_the_build(layout: Layout) -> None:
    Path(layout.build, "Cargo.toml").write_text("[package\n")
    with pytest.raises(BuildFailed, match=r"Cargo\.toml cannot be read"):
        rust.compile_command(layout, layout.build, "main.rs", "/usr/bin/cargo")


def test_what_a_lock_file_pins_is_worth_keeping(layout: Layout) -> None:
    assert not compiler_installs(layout, "rust")
    Path(layout.build, "Cargo.lock").write_text("")
    assert compiler_installs(layout, "rust")
