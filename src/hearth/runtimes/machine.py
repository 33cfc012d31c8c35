"""Everything that can run on this machine: images and packs that were chosen, then the machine's own interpreters."""

from pathlib import Path

from hearth.runtimes.host import discover_host_packs
from hearth.runtimes.images import ImagePacks, parse_images
from hearth.runtimes.packs import Packs
from hearth.runtimes.probes import Probes, default_file
from hearth.runtimes.shelf import Shelf


def packs_of(folder: Path, docker_images: str) -> Packs:
    """The runtimes that can run here: what is installed in `folder`, as it is at each look, then the host's own.

    Images that the operator named for the driver `docker` (the setting of that name) go before both.
    """
    shelf = Shelf(folder, discover_host_packs(probes=Probes(default_file())))
    rows = parse_images(docker_images)
    return ImagePacks(rows, shelf) if rows else shelf
