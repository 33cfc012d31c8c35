"""Real git repositories behind those of a stand-in, so that what it tells of can be fetched and pushed to."""

from collections.abc import Mapping
from pathlib import Path

from tests.support.forges.world import Commit, Repository
from tests.support.git import Repository as GitRepository


class Backing:
    """A folder with a bare repository for each repository that `put` or `commit` was called for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, GitRepository] = {}

    def of(self, repository: Repository) -> GitRepository:
        """The git repository; made when first asked for, and writable over http."""
        if repository.full_name not in self._made:
            made = GitRepository(self.folder / f"{repository.full_name}.git")
            made.git("config", "http.receivepack", "true")
            self._made[repository.full_name] = made
        return self._made[repository.full_name]

    def commit(
        self,
        repository: Repository,
        files: Mapping[str, str],
        message: str = "a message",
        branch: str = "main",
        modules: Mapping[str, str] | None = None,
    ) -> str:
        """A commit with exactly these files and submodules (name -> commit) on a branch; its hash."""
        git = self.of(repository)
        entries = [("100644", git.blob(text.encode()), name) for name, text in files.items()]
        entries += [("160000", commit, name) for name, commit in (modules or {}).items()]
        parent = repository.branches.get(branch, "")
        hash = git.commit_entries(entries, message, branch=branch, parent=parent)
        content = {name: text.encode() for name, text in files.items()}
        repository.commits[hash] = Commit(hash, message, "Ada", content, parent)
        repository.branches[branch] = hash
        return hash

    def delete_branch(self, repository: Repository, branch: str) -> str:
        """Take a branch away; its last commit."""
        self.of(repository).git("update-ref", "-d", f"refs/heads/{branch}")
        return repository.branches.pop(branch)

    def offer(self, base: Repository, fork: Repository, branch: str, number: int) -> None:
        """Keep a fork's branch in the base as well, as hosts do for pull requests."""
        where = self.of(fork).folder
        self.of(base).git("fetch", "--quiet", str(where), f"refs/heads/{branch}:refs/pull/{number}/head")
        base.commits.update(fork.commits)

    def read(self, repository: Repository) -> None:
        """Take over what was pushed into the git repository."""
        git = self.of(repository)
        listed = git.git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads").splitlines()
        for branch, hash in (line.split(" ") for line in listed):
            repository.branches[branch] = hash
            if hash not in repository.commits:
                author, parent, message = git.git("log", "-1", "--format=%an%n%P%n%B", hash).split("\n", 2)
                listed_files = [line.split(maxsplit=3) for line in git.git("ls-tree", "-r", hash).splitlines()]
                files = {it[3]: git.git("cat-file", "blob", it[2]).encode() for it in listed_files if it[1] == "blob"}
                repository.commits[hash] = Commit(hash, message.strip(), author, files, parent)
