"""Runtimes out of Docker images: the operator's table of which image serves which runtime (driver `docker`).

The image brings the interpreter; our shim for the language is shown to it and speaks the instance protocol, as
everywhere. For builds it needs Python 3.9 or newer, as `python3` on its PATH, and /usr/bin/env.

An image with a server of its own (`#http`: those of Open Runtimes) is used as it is, builds included. What speaks to
that server is shown to the sandbox together with this machine's Python, so the image needs none.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hearth.data import load
from hearth.runtimes.families import FAMILIES, OPEN_RUNTIMES, family_of, has_shim, shim_command
from hearth.runtimes.lent import lent_python
from hearth.runtimes.locations import SHIMS_INSIDE
from hearth.runtimes.packs import Level, Pack, Packs

PROVIDER = "docker"
HTTP = "http"
"""Instead of an interpreter: the image has a server of its own, which is spoken to by HTTP."""
ONE_AT_ONCE = frozenset({"python", "php", "ruby"})
"""Families whose server would let a second request wait behind a handler that blocks; the others take many."""
PROGRAMS: Mapping[str, str] = {"python": "python3"}
"""What the interpreter of a family is called, where not like the family."""
DEFAULT_FOLDER = "/usr/local/bin"
"""Where the official images of most languages have it."""

_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,254}\Z")
_PATH = re.compile(r"(/[a-zA-Z0-9._+-]+)+\Z")


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One line of the table: the runtime, its image, and the interpreter's path in it, `""` if its server is used."""

    runtime: str
    family: str
    image: str
    interpreter: str


def parse_images(text: str) -> tuple[ImageRow, ...]:
    """Read `RUNTIME=IMAGE[#INTERPRETER or #http],...`. Raises ValueError that says which entry breaks which rule."""
    families = {str(row["id"]): str(row["key"]) for row in load("runtimes.json")["runtimes"]}
    rows: dict[str, ImageRow] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        runtime, _, rest = entry.partition("=")
        image, _, interpreter = rest.partition("#")
        if _IMAGE.match(image) is None:
            raise ValueError(f"must be RUNTIME=IMAGE or RUNTIME=IMAGE#INTERPRETER, comma between, not {entry!r}")
        family = families.get(runtime)
        if family is None:
            raise ValueError(f"there is no runtime {runtime!r}; see `hearth runtimes list`")
        if not has_shim(family) or family_of(family).is_compiled:
            raise ValueError(f"{runtime} cannot run in an image; without one it runs as with the driver ns")
        if runtime in rows:
            raise ValueError(f"{runtime} is named twice")
        if interpreter == HTTP:
            rows[runtime] = ImageRow(runtime, family, image, "")
            continue
        interpreter = interpreter or f"{DEFAULT_FOLDER}/{PROGRAMS.get(family, family)}"
        if _PATH.match(interpreter) is None or "/." in interpreter:
            raise ValueError(f"the interpreter of {runtime} must be a plain absolute path, not {interpreter!r}")
        rows[runtime] = ImageRow(runtime, family, image, interpreter)
    return tuple(rows.values())


class ImagePacks:
    """Implements `Packs`: the runtimes of the table, then those of `others`, which need no image."""

    def __init__(self, rows: Sequence[ImageRow], others: Packs) -> None:
        self._own = {row.runtime: _pack(row) for row in rows}
        self._others = others

    def get(self, id: str) -> Pack | None:
        """The pack that serves runtime `id` here, or None."""
        return self._own.get(id) or self._others.get(id)

    def all(self) -> Sequence[Pack]:
        """Every pack, those of images first."""
        return (*self._own.values(), *(pack for pack in self._others.all() if pack.id not in self._own))


def _pack(row: ImageRow) -> Pack:
    if not row.interpreter:
        return _server_pack(row)
    folder = row.interpreter.rpartition("/")[0] or "/"
    return Pack(
        id=row.runtime,
        family=row.family,
        version=row.image,
        level=Level.EXPERIMENTAL,
        provider=PROVIDER,
        interpreter=row.interpreter,
        shim=shim_command(row.family, row.interpreter),
        path=(folder,),
        image=row.image,
    )


def _server_pack(row: ImageRow) -> Pack:
    """The pack of an image with a server of its own; what runs beside it is this machine's Python."""
    python = lent_python()
    program = f"{SHIMS_INSIDE}/{FAMILIES[OPEN_RUNTIMES].shim}"
    takes = "one" if row.family in ONE_AT_ONCE else "many"
    return Pack(
        id=row.runtime,
        family=OPEN_RUNTIMES,
        version=row.image,
        level=Level.EXPERIMENTAL,
        provider=PROVIDER,
        interpreter="",
        shim=(*python.command, "-I", "-S", program, takes),
        path=(DEFAULT_FOLDER,),
        mounts=python.mounts,
        image=row.image,
        python=python.command,
    )
