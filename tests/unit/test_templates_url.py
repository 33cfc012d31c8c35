"""The setting `templates_url`: what is accepted, and that a password in it is not repeated."""

from pathlib import Path

import pytest

from hearth.settings import SettingsInvalid, load


def problems(url: str) -> str:
    try:
        load({}, {"HEARTH_TEMPLATES_URL": url}, None)
    except SettingsInvalid as invalid:
        return "\n".join(invalid.problems)
    return ""


def test_hosts_and_folders_that_exist_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "my mirror").mkdir()
    for url in (
        "https://github.com",
        "http://127.0.0.1:3000/base",
        f"file://{tmp_path}",
        f"file://{tmp_path}/my%20mirror/",
    ):
        assert problems(url) == "", url


@pytest.mark.parametrize(
    "url",
    [
        "github.com",
        "ssh://git@github.com",
        "git@github.com:a",
        "https://",
        "https://host:port",
        "https://host/?x=1",
        "https://host/a b",
        "file://host/folder",
        "file:///",
        "file:///nonexistent-folder",
        "--upload-pack=x",
    ],
)
def test_anything_else_is_a_problem_said_at_the_start(url: str) -> None:
    assert problems(url).startswith("templates_url: ")


def test_a_password_is_not_repeated() -> None:
    assert "s3cret" not in problems("ftp://ada:s3cret@host")
