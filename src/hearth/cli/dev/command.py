"""The command line of `hearth dev`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hearth.cli.client.problems import Problem


def dev(
    folder: Path = Path(),
    /,
    *,
    port: int = 3000,
    runtime: str = "",
    entrypoint: str = "",
    env_file: Path | None = None,
    data_dir: Annotated[Path | None, Parameter(help="data folder whose installed runtimes are used too")] = None,
) -> int:
    """Run a function from its folder, and again with each change of a file. No server and no root is needed.

    Parameters
    ----------
    folder:
        folder of the function, or of a project with one function
    port:
        port on loopback, 0 = any free one
    runtime:
        id of a runtime; left out, that of the project file, or the newest of the language
    entrypoint:
        file of the handler; left out, that of the project file, or the usual ones
    env_file:
        variables of the function [default: .env in its folder]
    """
    import os

    from hearth.cli.dev.program import choose
    from hearth.cli.dev.server import run
    from hearth.runtimes.machine import packs_of
    from hearth.settings import load

    try:
        given = {} if data_dir is None else {"data_dir": data_dir}
        settings = load(given, os.environ, None).settings
        packs = packs_of(settings.packs_folder, settings.docker_images)
        program = choose(folder, runtime, entrypoint, packs)
        return run(program, port, env_file.absolute() if env_file else None)
    except Problem as error:
        print(f"hearth: {error}", file=sys.stderr)
        return error.exit_code
