"""Examples as files: their description, their archive, and which runtime they get."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from hearth.cli.example_runs import choose_runtime
from hearth.cli.examples import SETTINGS, BadExample, load_examples, pack_folder
from hearth.cli.quickstart import default_examples_dir


def test_every_shipped_example_says_what_its_answer_must_be() -> None:
    examples = load_examples(default_examples_dir())
    assert {"hello-node", "hello-python", "node-npm-dependency", "python-pip-dependency"} <= {e.id for e in examples}
    for example in examples:
        assert set(example.settings) == set(SETTINGS), "a PUT resets what is left out"
        assert (example.folder / example.settings["entrypoint"]).is_file()
        assert example.request.body_part


def test_equal_folders_give_equal_archives_whatever_their_times(tmp_path: Path) -> None:
    for name, stamp in (("one", 1_000), ("two", 2_000_000_000)):
        file = tmp_path / name / "src" / "main.js"
        file.parent.mkdir(parents=True)
        file.write_text("export default 1")
        os.utime(file, (stamp, stamp))
    assert pack_folder(tmp_path / "one") == pack_folder(tmp_path / "two")
    (tmp_path / "two" / "src" / "main.js").write_text("export default 2")
    assert pack_folder(tmp_path / "one") != pack_folder(tmp_path / "two")


def test_an_archive_leaves_out_what_is_ignored_at_any_depth(tmp_path: Path) -> None:
    for name in ("main.py", ".env", "lib/__pycache__/x.pyc", "node_modules/a/index.js", "lib/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with tarfile.open(fileobj=io.BytesIO(pack_folder(tmp_path, [".env", "node_modules", "__pycache__"]))) as tar:
        assert tar.getnames() == ["lib/a.py", "main.py"]


def test_variables_come_from_the_env_file_without_comments(tmp_path: Path) -> None:
    (tmp_path / "fn").mkdir()
    (tmp_path / "fn" / ".env").write_text("# words\n\nA=1\nB = two=2\n")
    entry = {"$id": "fn", "runtime": "node-20.0", "path": "fn", "name": "Fn"}
    (tmp_path / "appwrite.config.json").write_text(json.dumps({"functions": [entry]}))
    request = {"method": "GET", "path": "/", "headers": {}, "body": "", "expect": {"status": 200, "body": "x"}}
    (tmp_path / "requests.json").write_text(json.dumps({"fn": request}))
    (example,) = load_examples(tmp_path)
    assert example.variables == {"A": "1", "B": "two=2"}


def test_a_broken_description_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "appwrite.config.json").write_text("{")
    with pytest.raises(BadExample, match=r"appwrite\.config\.json: not valid JSON"):
        load_examples(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "available", "chosen"),
    [
        ("node-20.0", ["node-18.0", "node-20.0", "node-22"], "node-20.0"),
        ("node-20.0", ["node-18.0", "node-22", "python-3.12"], "node-22"),
        ("python-3.11", ["python-3.9", "python-3.12", "python-ml-3.13"], "python-3.12"),
        ("node-20.0", ["python-3.11"], None),
    ],
)
def test_the_wished_runtime_else_the_newest_of_its_family(
    wanted: str, available: list[str], chosen: str | None
) -> None:
    assert choose_runtime(wanted, available) == chosen
