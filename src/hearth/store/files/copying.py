"""Files of a store that a server is working on: held as they are for a backup, and put back by a restore.

Stored files never change and an upload only grows, so a hard link holds a file even if its key goes meanwhile.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hearth.store.files.local import FILE_MODE, STORED, UPLOADS, make_folder

AREAS = (STORED, UPLOADS)


@dataclass(slots=True)
class Held:
    """Links in `folder` to files of the store below `data_dir`; (area, key) -> link."""

    data_dir: Path
    folder: Path
    links: dict[tuple[str, str], Path] = field(default_factory=dict)

    def hold_all(self) -> None:
        """Link every file that is not held yet. One that goes at this moment is left out."""
        for area in AREAS:
            top = self.data_dir / "files" / area
            for folder, _, names in os.walk(top):
                for name in names:
                    source = Path(folder, name)
                    self._hold(area, str(source.relative_to(top)), source)

    def _hold(self, area: str, key: str, source: Path) -> None:
        if (area, key) in self.links:
            return
        link = self.folder / f"{len(self.links):08}"
        with contextlib.suppress(FileNotFoundError):
            link.hardlink_to(source)
            self.links[area, key] = link

    def files(self) -> Iterator[tuple[str, str, Path]]:
        """Area, key and link of each, in the order of keys."""
        for (area, key), link in sorted(self.links.items()):
            yield area, key, link


@contextlib.contextmanager
def placed(data_dir: Path, area: str, key: str) -> Iterator[IO[bytes]]:
    """A new file of a store that no server is working on, to be written to; replaces one of the same key."""
    path = data_dir / "files" / area / key
    make_folder(path.parent)
    partial = path.with_name(path.name + ".restoring")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fchmod(file.fileno(), FILE_MODE)
        os.fsync(file.fileno())
    partial.replace(path)
