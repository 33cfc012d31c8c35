"""Unpacks a source and says what stands for its manifests: `source.py <archive-fd> <folder> ...` as `extract.py`.

Like it in arguments, exit codes and output; a good archive gets one more line, `manifests <digest>` (`manifests -`
where there are none). Runs before the build, in a sandbox without network that runs nothing of the user.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from shims.build.installs import manifests_digest  # type: ignore[import-not-found]
from shims.extract.extract import main  # type: ignore[import-not-found]


def run(argv: "list[str]") -> int:
    """Unpack, then look; returns the exit code of `extract.py`."""
    code: int = main(argv)
    if code == 0:
        print(f"manifests {manifests_digest(argv[2]) or '-'}")
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv))
