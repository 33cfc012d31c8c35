"""Where the command `hearth` begins: a plain `hearth serve` goes on without what the command line needs.

A server runs for months, and the parser of commands and what draws its help would stay in its memory (5 MB), used for
nothing. So the usual way to start one is read here; whatever is not understood, or is wrong, is left to
`hearth.cli.main`, which has the words for it.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hearth.settings import Settings, SettingsInvalid, fields, load


def plain_serve(argv: Sequence[str], environment: Mapping[str, str]) -> Settings | None:
    """The settings of `hearth serve` with nothing but flags that have values; None for anything else."""
    if not argv or argv[0] != "serve":
        return None
    known = {f"--{field.name.replace('_', '-')}": field.name for field in fields()} | {"--config": "config"}
    given: dict[str, str] = {}
    rest = iter(argv[1:])
    for word in rest:
        flag, has_value, value = word.partition("=")
        if not has_value:
            value = next(rest, "-")
            if value.startswith("-"):  # another flag, or nothing: the parser has its own rules for these
                return None
        name = known.get(flag)
        if name is None or name in given or not value:
            return None
        given[name] = value
    config = given.pop("config", None)
    try:
        return load(given, environment, None if config is None else Path(config)).settings
    except SettingsInvalid:
        return None


def main() -> None:
    """Run the command line and exit."""
    settings = plain_serve(sys.argv[1:], os.environ)
    if settings is None:
        from hearth.cli.main import main as run

        run()
        return
    from hearth.lean import import_libraries

    import_libraries()
    from hearth.server import serve

    sys.exit(serve(settings))


if __name__ == "__main__":
    main()
