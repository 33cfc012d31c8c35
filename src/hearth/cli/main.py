"""The command `hearth`: parses, calls, and turns the outcome into an exit code.

Exit codes: 0 fine, 1 failed, 2 wrong usage, 78 the machine or the configuration does not allow it.
Start-up time counts, so each command imports what it needs itself.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter
from rich.console import Console

from hearth import __version__
from hearth.cli.client import commands as client_commands
from hearth.cli.dev.command import dev
from hearth.settings import Loaded, SettingsInvalid, fields, load

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_ALLOWED = 78


def _flag(field: "dataclasses.Field[Any]") -> tuple[str, Any, Any]:
    """One setting as an optional flag; its default is None, so that only what was given counts as given."""
    shown = "the machine's" if field.default is dataclasses.MISSING else field.default
    doc = f"{field.metadata['doc']} [default: {'none' if shown == '' else shown}]"
    kind: Any = field.type
    annotation: Any = Annotated[kind | None, Parameter(help=doc, show_default=False)]
    return field.name, annotation, dataclasses.field(default=None)


#: Every setting as a flag; `None` where the flag was not given. The parser looks names up in the class's module.
Flags: Any = dataclasses.make_dataclass(
    "Flags", [_flag(field) for field in fields()], kw_only=True, namespace={"__module__": __name__}
)
SettingFlags = Annotated[Flags | None, Parameter(name="*")]
Config = Annotated[Path | None, Parameter(help="TOML file of settings [default: ./hearth.toml or /etc/hearth/]")]

app = cyclopts.App(
    name="hearth",
    help="Self-hosted functions platform that the Appwrite SDKs and CLI use unchanged.",
    version=__version__,
)
runtimes_app = cyclopts.App(name="runtimes", help="Which runtimes can run here, and how to get more.")
app.command(runtimes_app)
admin_app = cyclopts.App(name="admin", help="What an operator does to an installation.")
app.command(admin_app)
client_commands.register(app)
app.command(dev)


def _load(flags: Any, config: Path | None) -> Loaded:
    given = {} if flags is None else {name: value for name, value in vars(flags).items() if value is not None}
    return load(given, os.environ, config)


@app.command
def serve(*, config: Config = None, flags: SettingFlags = None) -> int:
    """Run the server in the foreground until SIGINT or SIGTERM."""
    from hearth.lean import import_libraries

    import_libraries()
    from hearth.server import serve as run

    return run(_load(flags, config).settings)


@app.command
def quickstart(
    *,
    once: bool = False,
    examples: Path | None = None,
    config: Config = None,
    flags: SettingFlags = None,
) -> int:
    """Start the server, deploy and run the examples, print the results, keep serving.

    Parameters
    ----------
    once:
        stop after the results; exit code 1 if an example failed
    examples:
        folder of the examples
    """
    from hearth.cli.quickstart import default_examples_dir, run_quickstart
    from hearth.runtimes.machine import packs_of

    loaded = _load(flags, config)
    settings = loaded.settings
    port = settings.port or _free_port(settings.host)
    given = [
        f"{origin}={getattr(settings, name)}" for name, origin in loaded.origins.items() if origin.startswith("--")
    ]
    given = [flag for flag in given if not flag.startswith("--port=")]
    argv = [sys.executable, "-m", "hearth.cli.entry", "serve", f"--port={port}", *given]
    argv += [f"--config={config}"] if config else []
    if settings.log_format == "auto" and sys.stderr.isatty():
        argv.append("--log-format=text")  # the server sees a pipe of ours, its reader sits at a terminal
    return run_quickstart(
        argv,
        host=settings.host,
        port=port,
        data_dir=settings.data_dir,
        examples_dir=examples or default_examples_dir(),
        runtimes=[pack.id for pack in packs_of(settings.packs_folder, settings.docker_images).all()],
        once=once,
    )


@app.command(name="config")
def show_config(*, json: bool = False, config: Config = None, flags: SettingFlags = None) -> int:
    """Show every setting with its value and where it comes from."""
    from hearth.cli.config import show

    return show(_load(flags, config), as_json=json)


@app.command
def doctor(*, json: bool = False, config: Config = None, flags: SettingFlags = None) -> int:
    """Look at the machine and the installation; exit code 1 if anything is red."""
    from hearth.cli.doctor import run

    return run(_load(flags, config), as_json=json)


@app.command
def backup(
    to: Path,
    *,
    project: str = "",
    passphrase_file: Path | None = None,
    without_keys: bool = False,
    config: Config = None,
    flags: SettingFlags = None,
) -> int:
    """Write a backup, while the server runs: database, files and keys of one moment.

    Parameters
    ----------
    to:
        file to write, which must not exist, or a folder
    project:
        id of a project; left out, the whole installation
    passphrase_file:
        file with the passphrase the keys are sealed with; else HEARTH_BACKUP_PASSPHRASE
    without_keys:
        leave the keys out; without them nothing that is stored encrypted can be read
    """
    from hearth.cli.backup import backup as run

    return run(_load(flags, config).settings, to, project, passphrase_file, without_keys=without_keys)


@app.command
def upgrade(*, check: bool = False, config: Config = None, flags: SettingFlags = None) -> int:
    """Say what this version would do to the data that is here; the upgrade itself is the start of the new server.

    Parameters
    ----------
    check:
        look, and try the migrations on a copy (SQLite); must be given
    """
    from hearth.cli.upgrade import check as run

    loaded = _load(flags, config)  # unknown settings are refused here, each by name
    if not check:
        Console(stderr=True).print("hearth: a new version upgrades the data at its start. Look before: --check")
        return EXIT_USAGE
    return run(loaded.settings)


@app.command
def restore(
    source: Path,
    *,
    project: str = "",
    passphrase_file: Path | None = None,
    replace: bool = False,
    check: bool = False,
    config: Config = None,
    flags: SettingFlags = None,
) -> int:
    """Put a backup back, into an empty data folder or, of one project, beside others. The server must not run.

    Parameters
    ----------
    source:
        file of `hearth backup`
    project:
        id of the one project to restore
    passphrase_file:
        file with the passphrase of the keys; else HEARTH_BACKUP_PASSPHRASE
    replace:
        also where something is already; files are kept aside, rows are not on PostgreSQL
    check:
        only read everything and compare the digests
    """
    from hearth.cli.restore import restore as run

    return run(_load(flags, config).settings, source, project, passphrase_file, may_replace=replace, only_check=check)


@runtimes_app.command(name="list")
def list_runtimes(*, json: bool = False, config: Config = None, flags: SettingFlags = None) -> int:
    """List the runtimes, which can run here and at what level."""
    from hearth.cli.runtimes import show

    return show(_load(flags, config).settings, as_json=json)


@runtimes_app.command(name="install")
def install_runtimes(
    *ids: str,
    source: Annotated[Path | None, Parameter(name="--from")] = None,
    again: bool = False,
    config: Config = None,
    flags: SettingFlags = None,
) -> int:
    """Install runtimes, e.g. `hearth runtimes install node-22 php-8.4`. A running server offers them at once.

    Parameters
    ----------
    ids:
        ids of runtimes, as `hearth runtimes list` shows them
    source:
        folder with the archives (`hearth runtimes fetch`), instead of the registries
    again:
        also if it is installed already: Debian's packages move on with their suite
    """
    from hearth.cli.runtimes import install

    return install(_load(flags, config).settings, ids, source, again=again)


@runtimes_app.command(name="fetch")
def fetch_runtimes(*ids: str, to: Path, config: Config = None, flags: SettingFlags = None) -> int:
    """Download what runtimes are installed from into a folder, for `install --from` on a machine without network.

    Parameters
    ----------
    ids:
        ids of runtimes
    to:
        folder for the archives, made if it is missing
    """
    from hearth.cli.runtimes import fetch

    return fetch(_load(flags, config).settings, ids, to)


@runtimes_app.command(name="remove")
def remove_runtimes(*ids: str, config: Config = None, flags: SettingFlags = None) -> int:
    """Remove installed runtimes. Functions of them cannot run afterwards.

    Parameters
    ----------
    ids:
        ids of installed runtimes
    """
    from hearth.cli.runtimes import remove

    return remove(_load(flags, config).settings, ids)


@admin_app.command
def maintenance(*, config: Config = None, flags: SettingFlags = None) -> int:
    """Have the running server remove what is past its retention, now."""
    from hearth.cli.admin import maintenance as run

    return run(_load(flags, config).settings)


@admin_app.command
def create_user(
    *,
    email: str,
    name: str = "",
    role: str = "owner",
    organization: str = "",
    password_stdin: bool = False,
    config: Config = None,
    flags: SettingFlags = None,
) -> int:
    """Add somebody who may log in to the console, as a member of an organization; prints a password made for him.

    Parameters
    ----------
    email:
        his address, by which he logs in
    name:
        his name
    role:
        owner, developer or admin
    organization:
        id of the organization; left out, the one of the project `default`
    password_stdin:
        read the password from standard input instead of making one
    """
    from hearth.cli.people import create_user as run

    password = sys.stdin.readline().rstrip("\n") if password_stdin else None
    return run(_load(flags, config).settings, email, name, role, organization, password)


@admin_app.command
def time_travel(
    *,
    project_id: str,
    resource_type: str,
    resource_id: str,
    created_at: str,
    config: Config = None,
    flags: SettingFlags = None,
) -> int:
    """Move the creation date of a resource, so that retention can be tried.

    Parameters
    ----------
    project_id:
        its project
    resource_type:
        deployments, executions, functions or variables
    resource_id:
        its id
    created_at:
        ISO 8601 date
    """
    from hearth.cli.admin import time_travel as run

    return run(_load(flags, config).settings, project_id, resource_type, resource_id, created_at)


@app.command
def completion(shell: Literal["bash", "zsh", "fish"]) -> int:
    """Print the completion script of a shell, e.g. `hearth completion bash > /etc/bash_completion.d/hearth`.

    Parameters
    ----------
    shell:
        bash, zsh or fish
    """
    print(app.generate_completion(shell=shell))
    return 0


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    errors = Console(stderr=True)
    try:
        code = app(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        errors.print(f"hearth: {error}", markup=False, highlight=False)
        errors.print("`hearth --help` shows the commands, `hearth COMMAND --help` the flags of one.", highlight=False)
        sys.exit(EXIT_USAGE)
    except SettingsInvalid as error:
        for problem in error.problems:
            errors.print(f"hearth: {problem}", markup=False, highlight=False)
        # A wrong flag is wrong usage; a wrong file or environment is a configuration that does not allow it.
        sys.exit(EXIT_USAGE if all("(--" in problem for problem in error.problems) else EXIT_NOT_ALLOWED)
    except BrokenPipeError:
        # The reader of our output has left (`| head`); nothing can be said there, also not when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
