"""The program of a fetch sandbox, run here on repositories of our own: what it packs, and what it refuses."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hearth.executor.sandbox.config import HOST_PSEUDO_ADDRESS
from hearth.runtimes.shims.fetch import layout as shim_layout
from hearth.runtimes.shims.fetch import tree
from hearth.runtimes.shims.fetch.facts import commit_facts
from hearth.runtimes.shims.fetch.git import write_config
from hearth.runtimes.shims.fetch.layout import FetchFailed, Layout, Request
from hearth.runtimes.shims.fetch.references import best_tag, near
from hearth.runtimes.shims.fetch.steps import fetch
from hearth.runtimes.shims.fetch.tree import own_address, submodule_problem
from tests.support.git import GitServer, Repository, git_server

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
BASE: dict[str, Any] = {
    "url": "",
    "mirror_path": "o/r",
    "kind": "branch",
    "reference": "main",
    "root_directory": "",
    "username": "",
    "password": "",
    "content_bytes": 1_000_000,
    "entries": 1_000,
    "archive_bytes": 1_000_000,
    "disk_bytes": 100_000_000,
}


@dataclass
class Bench:
    """A folder of repositories and a place to fetch to."""

    folder: Path
    repository: Repository

    def fetch(self, **changes: Any) -> dict[str, Any]:
        layout = Layout(
            str(self.folder / "root"), str(self.folder / "objects"), str(self.folder / "private"), "127.0.0.1"
        )
        for path in (layout.objects, layout.private):
            Path(path).mkdir(exist_ok=True)
        with (self.folder / "source.tar.gz").open("wb") as file:
            return fetch(Request.read({**BASE, **changes}), layout, file.fileno())

    def refused(self, **changes: Any) -> str:
        with pytest.raises(FetchFailed) as caught:
            self.fetch(**changes)
        return caught.value.message

    def members(self) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(self.folder / "source.tar.gz") as tar:
            return {member.name: member for member in tar.getmembers()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Repository(tmp_path / "root" / "o" / "r"))


@pytest.fixture
def server(bench: Bench) -> Iterator[GitServer]:
    with git_server(bench.folder / "root") as running:
        yield running


# ------------------------------------------------------------------------------------------------ what is packed


@pytest.mark.slow
def test_files_links_and_modes_are_packed_as_committed_at_the_commits_time(bench: Bench) -> None:
    commit = bench.repository.commit({"a/main.js": "x", "run.sh": "y"}, links={"l": "a/main.js"})
    told = bench.fetch()
    found = bench.members()
    assert sorted(found) == ["a/main.js", "l", "run.sh"]
    assert (found["a/main.js"].mode, found["run.sh"].mode) == (0o644, 0o755)
    assert (found["l"].issym(), found["l"].linkname) == (True, "a/main.js")
    assert {member.mtime for member in found.values()} != {0}
    assert told == {"reference": "main", "commit": commit, "author": "Ada", "message": "a message"}


def test_equal_commits_make_equal_archives(bench: Bench) -> None:
    bench.repository.commit({"b": "1", "a": "2"})
    bench.fetch()
    first = (bench.folder / "source.tar.gz").read_bytes()
    bench.fetch()
    assert (bench.folder / "source.tar.gz").read_bytes() == first


@pytest.mark.slow
def test_only_the_folder_asked_for_is_sent(bench: Bench, server: GitServer) -> None:
    """Sparse for good: what lies beside the root directory does not cross the network."""
    bench.repository.commit({"node/main.js": "x", "other/big.bin": bytes(range(256)) * 20_000, "README": "y"})
    bench.fetch(mirror_path="", url=f"{server.url}/o/r", root_directory="node", content_bytes=1_000)
    assert list(bench.members()) == ["main.js"]
    assert server.sent < 10_000


@pytest.mark.slow
@pytest.mark.parametrize("annotated", [False, True])
def test_a_tag_a_range_a_branch_and_a_commit_lead_to_their_commits(
    bench: Bench, server: GitServer, annotated: bool
) -> None:
    repository, at = bench.repository, {"mirror_path": "", "url": f"{server.url}/o/r"}
    old = repository.commit({"f": "old"})
    repository.tag("0.3.9", commit=old, annotated=annotated)
    new = repository.commit({"f": "new"})
    repository.tag("0.3.10", commit=new, annotated=annotated)
    repository.commit({"f": "branch"}, branch="feature/x")
    assert bench.fetch(**at, kind="tag", reference="0.3.9")["commit"] == old
    ranged = bench.fetch(**at, kind="tag", reference="0.3.*")
    assert (ranged["commit"], ranged["reference"]) == (new, "0.3.10")
    assert bench.fetch(**at, kind="commit", reference=old)["commit"] == old
    assert bench.fetch(**at, kind="branch", reference="feature/x")["commit"] not in (old, new)


@pytest.mark.slow
def test_a_server_without_partial_clones_serves_too(bench: Bench, server: GitServer) -> None:
    bench.repository.commit({"node/main.js": "x", "f": "y"})
    bench.repository.git("config", "uploadpack.allowFilter", "false")
    bench.fetch(mirror_path="", url=f"{server.url}/o/r", root_directory="node")
    assert list(bench.members()) == ["main.js"]


def test_a_mirror_may_hold_repositories_with_git_in_their_name(bench: Bench) -> None:
    Repository(bench.folder / "root" / "o" / "bare.git").commit({"f": "x"})
    bench.fetch(mirror_path="o/bare")
    assert list(bench.members()) == ["f"]


def test_pointers_of_large_file_storage_are_warned_of(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.repository.commit({"main.js": "x", "model.bin": POINTER})
    bench.fetch()
    assert "Warning: 1 Git LFS pointers instead of files: model.bin." in capsys.readouterr().out
    assert "model.bin" in bench.members()


def test_a_stranger_cannot_colour_the_log(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.repository.commit({"f": "x"}, "evil \x1b[2J\x07message\nsecond line")
    assert bench.fetch()["message"] == "evil \x1b[2J\x07message\nsecond line"
    assert "\x1b[2J" not in (said := capsys.readouterr().out)
    assert "evil  [2J message" in said
    assert "second line" not in said


# ------------------------------------------------------------------------------------------------ what is missing


def test_a_missing_repository_is_named(bench: Bench) -> None:
    assert '"o/none" in this server\'s mirror does not exist' in bench.refused(mirror_path="o/none")


def test_a_missing_tag_is_answered_with_near_ones(bench: Bench) -> None:
    bench.repository.commit({"f": "x"})
    bench.repository.tag("1.0.0", "1.1.0", "2.0.0")
    assert bench.refused(kind="tag", reference="1.1.1").endswith(
        "has no tag 1.1.1. Some of its tags: 1.1.0, 1.0.0, 2.0.0."
    )
    assert "no tag that fits 3.*. Some of its tags: 2.0.0" in bench.refused(kind="tag", reference="3.*")


@pytest.mark.slow
def test_a_missing_branch_commit_and_folder_are_named(bench: Bench) -> None:
    bench.repository.commit({"node/f": "x"})
    assert "has no branch master. Some of its branches: main." in bench.refused(reference="master")
    assert f"has no commit {'a' * 40}" in bench.refused(kind="commit", reference="a" * 40)
    assert 'no folder "nod". Its folders are: node.' in bench.refused(root_directory="nod")
    assert 'no folder "node/f"' in bench.refused(root_directory="node/f"), "a file is no folder"


@pytest.mark.slow
def test_credentials_reach_their_host_and_no_argument_or_message(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.repository.commit({"f": "x"})
    with git_server(bench.folder / "root", "ada:s3cret") as server:
        at = {"mirror_path": "", "url": f"{server.url}/o/r"}
        assert "does not exist or is not public" in bench.refused(**at)
        assert "does not exist or is not public" in (wrong := bench.refused(**at, username="ada", password="wr0ng"))
        bench.fetch(**at, username="ada", password="s3cret")
    said = capsys.readouterr().out
    assert "s3cret" not in said
    assert "wr0ng" not in said + wrong
    assert not any("s3cret" in line for line in server.requests)


def test_a_host_that_cannot_be_reached_is_the_operators_to_allow(bench: Bench) -> None:
    message = bench.refused(mirror_path="", url="http://127.0.0.1:1/o/r")
    assert "127.0.0.1:1 cannot be reached" in message
    assert "HEARTH_EGRESS_ALLOW" in message


def test_the_hosts_loopback_has_the_address_that_the_gate_gives_it() -> None:
    assert shim_layout.HOST_LOOPBACK == HOST_PSEUDO_ADDRESS


# ------------------------------------------------------------------------------------------------ what is hostile


@pytest.mark.parametrize("target", ["/etc", "../outside", "a/../../etc/passwd", "/etc/passwd\nx", ""])
def test_a_link_out_of_the_folder_is_refused_by_name(bench: Bench, target: str) -> None:
    if target:
        bench.repository.commit({"a/f": "x"}, links={"evil": target})
    else:
        bench.repository.commit_entries([("120000", bench.repository.blob(b""), "evil")], "m")
    assert 'The link "evil" in the repository points to' in bench.refused()


def test_a_link_that_leaves_the_root_directory_is_refused_though_it_stays_in_the_repository(bench: Bench) -> None:
    bench.repository.commit({"node/f": "x", "secret": "y"}, links={"node/l": "../secret"})
    assert 'The link "l"' in bench.refused(root_directory="node")
    bench.fetch()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc", "not https"),
        ("/etc", "not https"),
        ("http://example.com/x", "not https"),
        ("ext::sh -c touch% /tmp/pwned", "not https"),
        ("git@github.com:a/b", "not https"),
        ("https://127.0.0.1/x", "bare address"),
        ("https://[::1]/x", "bare address"),
        ("https://localhost/x", "not a public one"),
        ("https://x.internal/x", "not a public one"),
        ("https://user:pw@example.com/x", "user name"),
        ("https://example.com:22/x", "names a port"),
        ("https://example.com:x/x", "not an address"),
        ("--upload-pack=touch /tmp/pwned", "not https"),
        ("", "names no address"),
        ("../other", "not https"),
    ],
)
def test_a_submodule_anywhere_but_at_a_public_https_address_is_refused(bench: Bench, url: str, why: str) -> None:
    modules = f'[submodule "m"]\n\tpath = lib/m\n\turl = "{url}"\n' if url else ""
    bench.repository.commit({"f": "x", ".gitmodules": modules}, modules={"lib/m": "b" * 40})
    message = bench.refused()
    assert 'The submodule "lib/m"' in message
    assert why in message


def test_a_submodule_outside_of_the_root_directory_is_left_alone(bench: Bench) -> None:
    modules = '[submodule "m"]\n\tpath = lib/m\n\turl = file:///etc\n'
    bench.repository.commit({"node/f": "x", ".gitmodules": modules}, modules={"lib/m": "b" * 40})
    bench.fetch(root_directory="node")
    assert list(bench.members()) == ["f"]


@pytest.mark.slow
def test_submodules_are_packed_where_they_belong_and_only_so_many(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their addresses are files here, which `submodule_problem` refuses otherwise."""
    monkeypatch.setattr(tree, "submodule_problem", lambda url: "")
    inner = Repository(bench.folder / "root" / "o" / "inner")
    outer = Repository(bench.folder / "root" / "o" / "outer")
    innermost = inner.commit({"deep.txt": "x"})
    modules = f'[submodule "i"]\n\tpath = vendor/i\n\turl = file://{inner.folder}\n'
    pinned = outer.commit({"lib.js": "x", ".gitmodules": modules}, modules={"vendor/i": innermost})
    outer.commit({"moved on": "y"})
    modules = '[submodule "any name"]\n\tpath = node/lib/m\n\turl = ../outer\n'
    bench.repository.commit({"node/main.js": "x", ".gitmodules": modules}, modules={"node/lib/m": pinned})
    bench.fetch(root_directory="node")
    assert list(bench.members()) == ["lib/m/.gitmodules", "lib/m/lib.js", "lib/m/vendor/i/deep.txt", "main.js"]
    assert "Submodules fetched: node/lib/m, vendor/i." in capsys.readouterr().out
    monkeypatch.setattr(tree, "SUBMODULE_LEVELS_MAX", 1)
    assert "more submodules than are fetched" in bench.refused(root_directory="node")


@pytest.mark.slow
@pytest.mark.parametrize("url", ["../lib.git", "{server}/o/lib.git", "git@127.0.0.1:o/lib.git"])
def test_a_private_submodule_at_the_own_host_is_opened_by_the_same_credentials_unless_a_stranger_asks(
    bench: Bench, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    lib = Repository(bench.folder / "root" / "o" / "lib.git")
    pinned = lib.commit({"lib.py": "secret"})
    with git_server(bench.folder / "root", "deploy:t0ken") as server:
        modules = f'[submodule "m"]\n\tpath = lib\n\turl = {url.format(server=server.url)}\n'
        bench.repository.commit({"main.py": "x", ".gitmodules": modules}, modules={"lib": pinned})
        here = {"mirror_path": "", "url": f"{server.url}/o/r", "username": "deploy", "password": "t0ken"}
        bench.fetch(**here, is_connected=True, shares_access=True)
        assert "lib/lib.py" in bench.members()
        asked = len(server.requests)
        message = bench.refused(**here, is_connected=True, shares_access=False)
        assert 'The submodule "lib"' in message
        assert not [line for line in server.requests[asked:] if "/lib.git" in line]
    assert "t0ken" not in message + capsys.readouterr().out


def test_credentials_that_are_not_shared_are_for_one_repository(bench: Bench) -> None:
    (bench.folder / "private").mkdir()
    here = Layout(private=str(bench.folder / "private"))
    asked = {**BASE, "mirror_path": "", "url": "https://git.test/o/r", "username": "u", "password": "p"}
    for shares, place in ((False, "https://git.test/o/r"), (True, "https://git.test/")):
        path = write_config(here, Request.read({**asked, "shares_access": shares}), "https://git.test/o/r")
        sections = Path(path).read_text().split("[http ")
        assert [text.split('"')[1] for text in sections if "Authorization" in text] == [place]


@pytest.mark.parametrize(
    ("url", "source", "found"),
    [
        ("https://git.test/o/lib.git", "https://git.test/o/r", "https://git.test/o/lib.git"),
        ("ssh://git@git.test:22/o/lib", "https://git.test/o/r", "https://git.test/o/lib"),
        ("git@git.test:o/lib.git", "https://git.test/o/r", "https://git.test/o/lib.git"),
        ("git@git.test:o/lib.git", "ssh://git@git.test/o/r", "ssh://git@git.test/o/lib.git"),
        ("ssh://eve@git.test/o/lib.git", "ssh://git@git.test/o/r", ""),
        ("https://git.test.evil.example/o/lib", "https://git.test/o/r", ""),
        ("https://git.test:8443/o/lib", "https://git.test/o/r", ""),
        ("http://git.test/o/lib", "https://git.test/o/r", ""),
        ("https://u:p@git.test/o/lib", "https://git.test/o/r", ""),
        ("https://git.test/o/../../admin", "https://git.test/o/r", ""),
        ("https://git.test/o/lib?x=y", "https://git.test/o/r", ""),
        ("git@git.test:-oProxyCommand=x", "https://git.test/o/r", "https://git.test/-oProxyCommand=x"),
        ("file:///etc", "file:///mnt/mirror/o/r", ""),
        ("../lib", "https://git.test/o/r", ""),
    ],
)
def test_only_addresses_at_the_very_same_host_are_the_own(url: str, source: str, found: str) -> None:
    asked = Request.read({**BASE, "mirror_path": "", "url": source, "shares_access": True})
    assert own_address(url, asked, source) == found
    assert own_address(url, Request.read({**BASE, "url": source}), source) == ""


def test_public_https_addresses_of_submodules_are_good() -> None:
    assert submodule_problem("https://github.com/a/b.git") == ""
    assert submodule_problem("https://git.example.com:443/a") == ""


@pytest.mark.slow
def test_too_many_files_are_counted_before_they_are_sent(bench: Bench) -> None:
    blob = bench.repository.blob(b"x")
    bench.repository.commit_entries([("100644", blob, f"d{n % 50}/f{n}") for n in range(2_001)], "m")
    assert "has more than 2,000 files" in bench.refused(entries=2_000)
    bench.fetch(entries=2_001)


def test_a_tree_that_repeats_itself_without_end_is_refused(bench: Bench) -> None:
    """A few small trees that stand for billions of files."""
    repository = bench.repository
    object = repository.blob(b"x")
    kind = "100644 blob"
    for _ in range(8):
        object = repository.git("mktree", send="".join(f"{kind} {object}\tn{n}\n" for n in range(40)).encode())
        kind = "040000 tree"
    commit = repository.git("commit-tree", object, send=b"m")
    repository.git("update-ref", "refs/heads/main", commit)
    assert "has more than 1,000 files" in bench.refused()


def test_content_above_the_limit_is_refused_with_the_largest_file(bench: Bench) -> None:
    bench.repository.commit({"small": "x", "zeros": bytes(3_000_000)})
    message = bench.refused()
    assert "hold 3.0 MB, more than a source may: 1.0 MB" in message
    assert 'The largest is "zeros" with 3.0 MB' in message


def test_an_archive_above_the_limit_is_refused(bench: Bench) -> None:
    bench.repository.commit({"f": b"".join(n.to_bytes(4, "big") for n in range(0, 4_000_000_000, 19_777))})
    assert "larger than 0.1 MB when packed" in bench.refused(archive_bytes=100_000)


@pytest.mark.parametrize("name", [".git/config", "a/.GIT/hooks/post-checkout", "../up", "a/./b", "bell\x07"])
def test_names_that_no_git_makes_are_refused(bench: Bench, name: str) -> None:
    """Written as raw trees, since git's own commands refuse such names."""
    repository = bench.repository
    blob = bytes.fromhex(repository.blob(b"x"))
    entry, mode = blob, b"100644"
    for part in reversed(name.split("/")):
        raw = mode + b" " + part.encode() + b"\0" + entry
        entry = bytes.fromhex(repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", send=raw))
        mode = b"40000"
    repository.git("update-ref", "refs/heads/main", repository.git("commit-tree", entry.hex(), send=b"m"))
    assert "a file with" in bench.refused()


def test_references_that_look_like_options_are_never_chosen(bench: Bench, tmp_path: Path) -> None:
    bench.repository.commit({"f": "x"})
    evil = f"--upload-pack=touch${{IFS}}{tmp_path}/pwned"
    commit = bench.repository.git("rev-parse", "main")
    (bench.repository.folder / "packed-refs").write_text(f"{commit} refs/tags/{evil}\n{commit} refs/tags/1.0\n")
    assert bench.fetch(kind="tag", reference="*")["reference"] == "1.0"
    assert "has no tag" in bench.refused(kind="tag", reference=evil)
    assert not (tmp_path / "pwned").exists()


def test_hooks_filters_and_attributes_of_a_repository_do_nothing(bench: Bench, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    attributes = "* filter=evil export-ignore text eol=crlf\n"
    bench.repository.commit({".gitattributes": attributes, "f": "line\n"})
    bench.repository.git("config", "filter.evil.smudge", f"touch {marker}")
    bench.repository.git("config", "uploadpack.packObjectsHook", f"touch {marker};")
    hook = bench.repository.folder / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    bench.fetch()
    assert not marker.exists()
    with tarfile.open(bench.folder / "source.tar.gz") as tar:
        file = tar.extractfile("f")
        assert file is not None
        assert file.read() == b"line\n"


# ------------------------------------------------------------------------------------------------ pure parts


@pytest.mark.parametrize(
    ("tags", "reference", "found"),
    [
        (["0.3.1", "0.3.10", "0.3.9", "0.4.0"], "0.3.*", "0.3.10"),
        (["v0.3.1", "0.3.0"], "0.3.*", "v0.3.1"),
        (["v1.2", "v1.10"], "v1.*", "v1.10"),
        (["1.0.0", "1.0.1-rc.1"], "1.*", "1.0.0"),
        (["1.0.1-rc.1", "1.0.1-rc.10", "1.0.1-rc.9"], "1.*", "1.0.1-rc.10"),
        (["2", "10", "1"], "*", "10"),
        (["1.0", "1.0.1"], "1.0", "1.0"),
        (["1.0.0+b1"], "1.*", "1.0.0+b1"),
        (["nightly", "0.1"], "*", "0.1"),
        (["0.31.0"], "0.3.*", None),
        (["v1.0"], "1.0", None),
        ([], "*", None),
        (["[x]1"], "[x]*", "[x]1"),
    ],
)
def test_a_range_is_the_highest_version_that_fits(tags: list[str], reference: str, found: str | None) -> None:
    assert best_tag(tags, reference) == found
    assert best_tag(list(reversed(tags)), reference) == found


def test_near_names_begin_with_what_was_meant() -> None:
    assert near(["v1.0.0", "v2.0.0"], "1.0.0")[0] == "v1.0.0"
    assert len(near([f"1.0.{n}" for n in range(50)], "9.9.9")) == 5


def test_a_commit_in_another_encoding_or_without_sense_is_read_as_far_as_it_goes() -> None:
    latin = (
        b"tree x\nauthor J\xf6rg <a@b> 1 +0000\ncommitter C <c@d> 1700000000 +0100\nencoding latin-1\n\ngr\xfc\xdfe\n"
    )
    facts = commit_facts(latin)
    assert (facts.author, facts.message, facts.time_s) == ("Jörg", "grüße\n", 1_700_000_000)
    assert commit_facts(b"encoding no-such-one\n\nm\0").message == "m"
    assert commit_facts(b"").time_s == 0
