"""The provider `debian-root`: packages of one Debian suite, unpacked into a root folder of their own by mmdebstrap.

The archive's signature is what verifies the packages. Mirrors are those that apt of this machine is set up for.
"""

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hearth.runtimes.downloads import DownloadFailed
from hearth.runtimes.pack_table import ARCHITECTURES, DebianRoot

PROGRAM = "mmdebstrap"
MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
#: Suites that get security updates from an archive of their own.
_WITH_SECURITY = frozenset({"bullseye", "bookworm", "trixie"})
#: The longest one root may take to be made, s (measured: 20 to 60).
MAKE_TIMEOUT_S = 1_800.0
#: What no function needs of a package.
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/lintian/*")
_STATUS_BYTES_MAX = 64 * 1024 * 1024
_SAID_LINES = 3


#: What apt of this machine is told about downloads, and an installation of a root is told too.
_APT_SETTINGS = re.compile(
    r'Acquire::(Check-Valid-Until|Max-ValidTime|Retries|https?::(Proxy|CaInfo|Verify-Peer|Timeout)) "[^"\n]+";'
)


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Addresses of the Debian archive and of its security updates (`""` = none known), and apt's settings for them."""

    debian: str = MIRROR
    security: str = SECURITY
    settings: tuple[str, ...] = ()


def machine_mirrors() -> Mirrors:
    """The mirrors apt of this machine uses, Debian's own where it uses none. Never fails."""
    addresses = _said("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    return replace(choose_mirrors(addresses), settings=choose_settings(_said("apt-config", "dump")))


def _said(*command: str) -> str:
    """What a program of apt prints, `""` where there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def choose_settings(dump: str) -> tuple[str, ...]:
    """The lines of `apt-config dump` that concern how archives are reached and judged."""
    return tuple(line for line in dump.splitlines() if _APT_SETTINGS.fullmatch(line))


def choose_mirrors(addresses: Sequence[str]) -> Mirrors:
    """Of the addresses apt uses, those of Debian itself: by convention their paths end so on every mirror."""
    plain = [address.rstrip("/") for address in addresses if re.match(r"(https?|file):", address)]
    debian = next((address for address in plain if address.endswith("/debian")), "")
    security = next((address for address in plain if address.endswith("/debian-security")), "")
    return Mirrors(debian, security) if debian else Mirrors()


def command(root: DebianRoot, machine: str, mirrors: Mirrors, output: Path) -> list[str]:
    """The command line that makes the root as a tar file at `output`."""
    sources = [f"deb {mirrors.debian} {root.suite} main"]
    if mirrors.security and root.suite in _WITH_SECURITY:
        sources.append(f"deb {mirrors.security} {root.suite}-security main")
    return [
        PROGRAM,
        "--variant=essential",
        f"--architectures={ARCHITECTURES[machine]}",
        "--format=tar",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        *(f"--aptopt={setting}" for setting in mirrors.settings),
        # Packages with alternatives (Java) make links to pages in it, and fail where it is missing.
        '--essential-hook=mkdir -p "$1/usr/share/man/man1"',
        f"--include={','.join(root.packages)}",
        # Sandboxes have /bin and /lib as links into /usr, as later suites do by themselves.
        *(["--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh"] if root.suite == "bullseye" else []),
        root.suite,
        str(output),
        *sources,
    ]


def make_root(root: DebianRoot, machine: str, output: Path, say: Callable[[str], None]) -> None:
    """Make the tar of a root at `output`; `say` gets the lines of mmdebstrap. Raises DownloadFailed.

    Nothing is at `output` unless it is whole.
    """
    if shutil.which(PROGRAM) is None:
        raise DownloadFailed(
            f"This pack is made of Debian packages, for which the program {PROGRAM} is needed: "
            f"apt-get install {PROGRAM}, or use a folder with archives (--from)."
        )
    if machine not in ARCHITECTURES:
        raise DownloadFailed(f"There is no Debian root for the architecture {machine}.")
    part = output.with_name(f"{output.name}.part")
    part.unlink(missing_ok=True)
    arguments = command(root, machine, machine_mirrors(), part)
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    last: list[str] = []
    errors: list[str] = []
    try:
        with subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            errors="replace",
            text=True,
        ) as process:
            try:
                for line in _lines(process):
                    last = [*last, line][-_SAID_LINES:]
                    if line.startswith("E: "):
                        errors.append(line)
                    say(line)
                code = process.wait(MAKE_TIMEOUT_S)
            except BaseException:
                process.terminate()  # it removes its temporary folder
                raise
        if code != 0 or not part.is_file():
            said = " / ".join(errors[:_SAID_LINES] or last) or "it said nothing"
            raise DownloadFailed(f"{PROGRAM} failed with exit code {code}: {said}")
        part.rename(output)
    finally:
        part.unlink(missing_ok=True)


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stderr is not None  # noqa: S101 - asked for
    for line in process.stderr:
        if line.strip():
            yield line.strip()


def package_version(archive: Path, package: str) -> str:
    """The upstream version of a package in a root's tar (`8.2.32` of `8.2.32-1~deb12u1`). Raises DownloadFailed."""
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.name.lstrip("./") == "var/lib/dpkg/status" and member.size <= _STATUS_BYTES_MAX:
                file = tar.extractfile(member)
                found = version_in(file.read().decode("utf-8", "replace"), package) if file else ""
                if found:
                    return found
    raise DownloadFailed(f"{archive.name} is no root with the package {package}.")


def version_in(status: str, package: str) -> str:
    """The same, of the text of dpkg's status file; `""` if the package is not in it."""
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Package") == package:
            version = fields.get("Version", "").rpartition(":")[2]
            return re.split(r"[-+~]", version, maxsplit=1)[0]
    return ""
