"""Builds with an image that brings the steps of a build itself (contract: runtime-contract 7): ours are around them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from .commands import run_commands
from .layout import BuildFailed, Layout

#: The family of runtimes that are such images.
FAMILY = "openruntimes"
SERVER = "/usr/local/server"
PROGRAM = "helpers/build.sh"


def run_image_build(
    commands: str, layout: Layout, environment: Mapping[str, str], disk_bytes: int, server: str = SERVER
) -> None:
    """Run the image's build over `layout.source`; what it makes is in `layout.build`. Raises BuildFailed.

    It also leaves an archive beside the source, which nobody needs.
    """
    if not os.path.isfile(os.path.join(server, PROGRAM)):
        raise BuildFailed(
            "image",
            f"The image of this runtime has no {server}/{PROGRAM}: it is none of Open Runtimes. "
            "Let the operator of this server name its interpreter in HEARTH_DOCKER_IMAGES instead of http.",
        )
    if not os.listdir(layout.source):
        raise BuildFailed("source", "Error: No source code found. Ensure your source isn't empty.")
    os.makedirs(layout.temporary, exist_ok=True)
    own = {
        "PATH": os.environ["PATH"],  # as the image sets it
        "OPEN_RUNTIMES_BUILD_INPUT_DIR": layout.source,
        "OPEN_RUNTIMES_BUILD_OUTPUT_DIR": layout.source,
        "OPEN_RUNTIMES_BUILD_COMPRESSION": "none",
    }
    command = f"cd {shlex.quote(server)} && exec bash {PROGRAM} {shlex.quote(commands)}"
    run_commands(command, layout, {**os.environ, **environment, **own}, disk_bytes)
