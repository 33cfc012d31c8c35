"""What the commands of a project can fail with; the text says what happened and what to do."""

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_ALLOWED = 1, 2, 78


class Problem(Exception):
    """A command cannot go on. `exit_code` is that of the command."""

    exit_code = EXIT_FAILED


class NotSetUp(Problem):
    """No project file, no credentials, or a file of them that cannot be used."""

    exit_code = EXIT_NOT_ALLOWED


class WrongUse(Problem):
    """What was asked for makes no sense."""

    exit_code = EXIT_USAGE


class Refused(Problem):
    """The server's answer is an error: its own words, its type and the HTTP status."""

    def __init__(self, message: str, type: str, status: int) -> None:
        self.type, self.status = type, status
        super().__init__(f"{message} ({type or status})")
