"""The command line of what works on a project: options, and the way from them to the code that does it.

Start-up time counts, so each command imports what it needs itself.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from hearth.cli.client.problems import Problem

if TYPE_CHECKING:
    from hearth.cli.client.connection import Connection
    from hearth.cli.client.project import Project


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Which project on which server, and how the answer is to look."""

    endpoint: Annotated[str, Parameter(help="address of the API [env: HEARTH_ENDPOINT]")] = ""
    project: Annotated[str, Parameter(help="id of the project [env: HEARTH_PROJECT]")] = ""
    key: Annotated[str, Parameter(help="API key [env: HEARTH_KEY; better there than here]")] = ""
    data_dir: Annotated[Path | None, Parameter(help="data folder of a server here, with its credentials.json")] = None
    file: Annotated[Path | None, Parameter(help="the project file [default: found in this folder or above]")] = None
    json: Annotated[bool, Parameter(negative="", help="print JSON")] = False


Name = Annotated[str, Parameter(show_default=False)]
_HERE = Where()
dead_letters = cyclopts.App(name="deadletters", help="Executions in the background that are not tried any more.")


def register(app: cyclopts.App) -> None:
    """Add the commands to the command line."""
    for command in (init, push, pull, logs, executions, replay, rollback, settings):
        app.command(command)
    app.command(dead_letters)


def init(
    folder: Path = Path(),
    /,
    *,
    template: str = "",
    runtime: str = "",
    name: str = "",
    project: str = "default",
    force: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="", help="print JSON")] = False,
) -> int:
    """Begin a function: its files from a template, and its entry in appwrite.config.json.

    Parameters
    ----------
    folder:
        folder of the project, made if it is missing; one that has a project file gets a further function
    template:
        node, python, bun, deno, php, ruby or go [default: that of the runtime, or node]
    runtime:
        id of a runtime [default: the newest of the template's that can run here]
    name:
        name of the function, of which its id is made [default: the folder's]
    project:
        id of the project, for a new project file
    force:
        also where files are in the way
    """
    from hearth.cli.client.init import Wanted
    from hearth.cli.client.init import init as run
    from hearth.runtimes.machine import packs_of
    from hearth.settings import load

    try:
        wanted = Wanted(folder, template, runtime, name, project, force)
        settings = load({}, os.environ).settings
        return run(wanted, packs_of(settings.packs_folder, settings.docker_images), as_json=json)
    except Problem as error:
        print(f"hearth: {error}", file=sys.stderr)
        return error.exit_code


def push(
    *functions: str,
    activate: bool = True,
    code: bool = True,
    cache: bool = True,
    with_variables: Annotated[bool, Parameter(negative="")] = False,
    is_async: Annotated[bool, Parameter(name="--async", negative="")] = False,
    where: Where = _HERE,
) -> int:
    """Deploy the functions of the project file, and show their builds; exit code 1 if one fails.

    Parameters
    ----------
    functions:
        ids of functions in the project file; none: all of them
    activate:
        whether a deployment becomes the active one when it is built
    code:
        whether the code is deployed, or only the settings updated
    cache:
        whether the build may begin with what an earlier one installed
    with_variables:
        also write the variables of each folder's `.env` and of `vars`
    is_async:
        do not wait for the builds
    """

    def work(connection: "Connection", project: "Project | None") -> int:
        from hearth.cli.client.project import require_project
        from hearth.cli.client.push import Options
        from hearth.cli.client.push import push as run

        entries = (project or require_project(Path.cwd())).chosen(functions)
        options = Options(activate=activate, code=code, cache=cache, variables=with_variables, follow=not is_async)
        return run(connection, entries, options, as_json=where.json)

    return _with_connection(where, work)


def pull(
    *functions: str,
    code: bool = True,
    with_variables: Annotated[bool, Parameter(negative="")] = False,
    force: Annotated[bool, Parameter(negative="")] = False,
    where: Where = _HERE,
) -> int:
    """Write functions of the server into the project file, and their code into its folders.

    Parameters
    ----------
    functions:
        ids of functions; none: all of the project
    code:
        whether the code is fetched too
    with_variables:
        also write each folder's `.env`
    force:
        replace files that differ
    """

    def work(connection: "Connection", project: "Project | None") -> int:
        from hearth.cli.client.pull import pull as run

        return run(
            connection,
            project,
            functions,
            code=code,
            variables=with_variables,
            force=force,
            as_json=where.json,
        )

    return _with_connection(where, work)


def logs(
    target: str,
    execution: Name = "",
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f", negative="")] = False,
    last: int = 20,
    where: Where = _HERE,
) -> int:
    """Show what a function or one execution has logged.

    Parameters
    ----------
    target:
        id of a function or of an execution
    execution:
        id of an execution of that function
    follow:
        go on with what is logged from now on; Ctrl-C ends it
    last:
        how many executions of a function are shown
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.logs import show

        return show(connection, target, execution, last=last, follow=follow, as_json=where.json)

    return _with_connection(where, work)


def executions(function: str, /, *, limit: int = 25, status: str = "", where: Where = _HERE) -> int:
    """List the newest executions of a function.

    Parameters
    ----------
    function:
        id of the function
    limit:
        how many at most
    status:
        only those: waiting, processing, completed, failed or scheduled
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.records import executions as run

        return run(connection, function, limit=limit, status=status, as_json=where.json)

    return _with_connection(where, work)


def replay(
    execution: str,
    /,
    *,
    deployment: str = "",
    is_async: Annotated[bool, Parameter(name="--async", negative="")] = False,
    where: Where = _HERE,
) -> int:
    """Run the stored request of an execution again and show what differs; for functions with `storeBodies`.

    Parameters
    ----------
    execution:
        id of the execution
    deployment:
        id of the deployment that is to run it [default: the active one]
    is_async:
        run it in the background, without a comparison
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.replay import replay as run

        return run(connection, execution, deployment_id=deployment, is_async=is_async, as_json=where.json)

    return _with_connection(where, work)


def rollback(function: str, deployment: Name = "", /, *, where: Where = _HERE) -> int:
    """Make an earlier deployment the active one.

    Parameters
    ----------
    function:
        id of the function
    deployment:
        id of the deployment; none: the newest ready one before the active one
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.records import rollback as run

        return run(connection, function, deployment, as_json=where.json)

    return _with_connection(where, work)


def settings(function: str, /, *changes: str, where: Where = _HERE) -> int:
    """Show the settings that only Hearth has, or change them: `hearth settings greeter retryMaxAttempts=3`.

    Parameters
    ----------
    function:
        id of the function
    changes:
        settings as name=value; lists are separated by commas or JSON
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.records import settings as run

        return run(connection, function, changes, as_json=where.json)

    return _with_connection(where, work)


@dead_letters.command(name="list")
def list_dead_letters(function: str, /, *, limit: int = 100, where: Where = _HERE) -> int:
    """List the dead letters of a function.

    Parameters
    ----------
    function:
        id of the function
    limit:
        how many at most
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.records import list_dead_letters as run

        return run(connection, function, limit=limit, as_json=where.json)

    return _with_connection(where, work)


@dead_letters.command(name="show")
def show_dead_letter(function: str, dead_letter: str, /, *, where: Where = _HERE) -> int:
    """Show one dead letter as JSON.

    Parameters
    ----------
    function:
        id of the function
    dead_letter:
        its id: that of the execution
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.records import show_dead_letter as run

        return run(connection, function, dead_letter)

    return _with_connection(where, work)


@dead_letters.command
def redrive(
    function: str,
    dead_letter: Name = "",
    /,
    *,
    all: Annotated[bool, Parameter(negative="")] = False,
    where: Where = _HERE,
) -> int:
    """Run the request of a dead letter again.

    Parameters
    ----------
    function:
        id of the function
    dead_letter:
        its id
    all:
        the 1,000 oldest instead of one
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.records import redrive as run

        return run(connection, function, dead_letter, all=all, as_json=where.json)

    return _with_connection(where, work)


@dead_letters.command
def purge(
    function: str,
    dead_letter: Name = "",
    /,
    *,
    all: Annotated[bool, Parameter(negative="")] = False,
    where: Where = _HERE,
) -> int:
    """Delete a dead letter.

    Parameters
    ----------
    function:
        id of the function
    dead_letter:
        its id
    all:
        all of them instead of one
    """

    def work(connection: "Connection", _: "Project | None") -> int:
        from hearth.cli.client.records import purge as run

        return run(connection, function, dead_letter, all=all, as_json=where.json)

    return _with_connection(where, work)


def _with_connection(where: Where, work: "Callable[[Connection, Project | None], int]") -> int:
    """Find project and server, do the work, and turn a problem into its message and exit code."""
    from hearth.cli.client.connection import Connection, Given, find_target
    from hearth.cli.client.project import find_project

    try:
        project = find_project(where.file or Path.cwd())
        given = Given(where.endpoint, where.project, where.key, where.data_dir)
        target = find_target(given, os.environ, project, project.folder if project else Path.cwd())
        with Connection(target) as connection:
            return work(connection, project)
    except Problem as error:
        print(f"hearth: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("hearth: interrupted; what runs in the server goes on.", file=sys.stderr)
        return 130
