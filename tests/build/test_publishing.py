"""Templates put into a repository by the program of a fetch sandbox, run here against a real git server."""

import io
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hearth.runtimes.shims.fetch.layout import FetchFailed, Layout, Request
from hearth.runtimes.shims.fetch.steps import publish
from tests.support.git import GitServer, Repository, git_server

pytestmark = pytest.mark.slow

TOKEN = "deploy:t0ken-of-tests"


def archive(files: Mapping[str, str], links: Mapping[str, str] | None = None) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    packed.seek(0)
    return packed


class Bench:
    """A repository at a server that asks for a token, and the program with that token."""

    def __init__(self, folder: Path, server: GitServer, repository: Repository) -> None:
        self.folder, self.server, self.repository = folder, server, repository

    def publish(self, packed: io.BytesIO, **changes: Any) -> dict[str, Any]:
        layout = Layout(*(str(self.folder / name) for name in ("mirror", "objects", "private")), "127.0.0.1")
        for path in (layout.objects, layout.private):
            shutil.rmtree(path, ignore_errors=True)  # each run has folders of its own
            Path(path).mkdir()
        (self.folder / "template.tar.gz").write_bytes(packed.getvalue())
        username, _, password = TOKEN.partition(":")
        asked = {
            "url": f"{self.server.url}/o/r.git",
            "mirror_path": "",
            "kind": "branch",
            "reference": "main",
            "root_directory": "",
            "username": username,
            "password": password,
            "content_bytes": 1_000_000,
            "entries": 100,
            "archive_bytes": 0,
            "disk_bytes": 100_000_000,
            "operation": "publish",
            "is_connected": True,
            "message": "Create 'shop' function",
            "author": "Hearth <noreply@hearth.invalid>",
        }
        with (self.folder / "template.tar.gz").open("rb") as file:
            return publish(Request.read(asked | changes), layout, file.fileno())

    def refused(self, **changes: Any) -> str:
        with pytest.raises(FetchFailed) as caught:
            self.publish(archive({"main.py": "template"}), **changes)
        return caught.value.message

    def listed(self, ref: str = "main") -> list[str]:
        return self.repository.git("ls-tree", "-r", "--name-only", ref).splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    repository = Repository(tmp_path / "root" / "o" / "r.git")
    repository.git("config", "http.receivepack", "true")
    with git_server(tmp_path / "root", TOKEN) as server:
        yield Bench(tmp_path, server, repository)


def test_a_template_is_one_commit_over_what_the_branch_holds(bench: Bench) -> None:
    before = bench.repository.commit({"README": "kept", "functions/shop/main.py": "old", "functions/shop/x": "kept"})
    packed = archive({"main.py": "template", 'a "b"/ü.sh': "run"}, {"link": "main.py"})
    told = bench.publish(packed, root_directory="functions/shop")
    repository = bench.repository
    assert told == {"commit": repository.git("rev-parse", "main"), "is_new": True}
    assert repository.git("rev-parse", "main~1") == before
    facts = repository.git("log", "-1", "--format=%an <%ae>|%cn|%s", "main")
    assert facts == "Hearth <noreply@hearth.invalid>|Hearth|Create 'shop' function"
    assert repository.git("show", "main:functions/shop/main.py") == "template"
    assert repository.git("show", "main:README") == "kept"
    modes = {
        line.split("\t")[1]: line[:6] for line in repository.git("ls-tree", "-r", "-z", "main").split("\0") if line
    }
    assert modes == {
        "README": "100644",
        "functions/shop/main.py": "100644",
        'functions/shop/a "b"/ü.sh': "100755",
        "functions/shop/link": "120000",
        "functions/shop/x": "100644",
    }
    repository.git("fsck", "--strict")


def test_what_the_branch_holds_already_is_not_pushed_again(bench: Bench) -> None:
    bench.repository.commit({"README": "kept"})
    first = bench.publish(archive({"main.py": "template"}))
    again = bench.publish(archive({"main.py": "template"}))
    assert again == {"commit": first["commit"], "is_new": False}
    assert bench.repository.git("rev-list", "--count", "main") == "2"


def test_an_empty_repository_gets_its_first_branch(bench: Bench) -> None:
    bench.publish(archive({"main.py": "template"}))
    assert bench.listed() == ["main.py"]
    assert "has no branch other" in bench.refused(reference="other")


def test_a_host_that_lets_nobody_write_is_explained_without_the_token(bench: Bench) -> None:
    commit = bench.repository.commit({"README": "x"})
    bench.repository.git("config", "http.receivepack", "false")
    message = bench.refused()
    assert "may only read, or the branch is protected" in message
    bench.repository.git("config", "http.receivepack", "true")
    hook = bench.repository.folder / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho protected t0ken-of-tests >&2\nexit 1\n")
    hook.chmod(0o755)
    protected = bench.refused()
    assert "the branch is protected" in protected
    assert "t0ken" not in message + protected
    assert "credentials do not open it" in bench.refused(password="wrong")
    assert bench.repository.git("rev-parse", "main") == commit


def test_branches_that_are_not_there_are_named_whatever_they_look_like(bench: Bench) -> None:
    bench.repository.commit({"README": "x"})
    assert "more than 0 files" in bench.refused(entries=0)
    for branch in ("main\nM 100644 inline x", "--exec=/bin/sh", "a b"):
        assert "has no branch" in bench.refused(reference=branch)
