"""How a plain `hearth serve` is understood without the parser of the command line."""

from pathlib import Path

import pytest

from hearth.cli.entry import plain_serve
from hearth.settings import load


def test_flags_mean_what_they_mean_to_the_parser(tmp_path: Path) -> None:
    environment = {"HEARTH_LOG_LEVEL": "debug"}
    found = plain_serve(["serve", "--data-dir", str(tmp_path), "--port=8123"], environment)
    assert found == load({"data_dir": str(tmp_path), "port": 8123}, environment).settings


def test_a_named_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("port = 8124\n")
    found = plain_serve(["serve", "--config", str(file)], {})
    assert found is not None
    assert found.port == 8124


@pytest.mark.parametrize(
    "words",
    [
        "",
        "doctor",
        "serve --help",
        "serve --port",
        "serve --port --data-dir=/x",
        "serve --port=1 --port=2",
        "serve --port=",
        "serve --unknown=1",
        "serve --port=many",
        "serve --port 8080 more",
    ],
)
def test_anything_else_is_left_to_the_parser(words: str) -> None:
    assert plain_serve(words.split(), {}) is None
