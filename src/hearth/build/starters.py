"""The starter templates that come with the platform: small functions to begin with, without any network."""

import gzip
import io
import tarfile
from importlib import resources
from importlib.resources.abc import Traversable

from hearth import data

_FOLDER = "starters"


class NoStarter(Exception):
    """There is no starter of that name; the text says which there are."""


def starter_archive(root_directory: str) -> bytes:
    """The starter `root_directory` (`node`, `python`) as a `.tar.gz` whose bytes depend on its files only."""
    folders = {folder.name: folder for folder in resources.files(data).joinpath(_FOLDER).iterdir() if folder.is_dir()}
    folder = folders.get(root_directory)
    if folder is None:
        names = ", ".join(sorted(folders))
        raise NoStarter(f'There is no starter "{root_directory}". Name one of these as root directory: {names}.')
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, file in sorted(_files(folder).items()):
            content = file.read_bytes()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def _files(folder: Traversable, prefix: str = "") -> dict[str, Traversable]:
    """The files of a starter by their paths in it; byte code that an interpreter left beside them is not one."""
    found = {}
    for entry in folder.iterdir():
        if entry.is_file():
            found[prefix + entry.name] = entry
        elif entry.name != "__pycache__":
            found |= _files(entry, f"{prefix}{entry.name}/")
    return found
