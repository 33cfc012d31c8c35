"""Where things are: the shims on this machine, and what a sandbox shows of them and of the code.

The folders inside are those of the reference runtimes, because functions know them (contract: runtime-contract 7).
"""

from pathlib import Path

SHIMS_FOLDER = Path(__file__).resolve().parent / "shims"

SERVER_INSIDE = "/usr/local/server"
SHIMS_INSIDE = f"{SERVER_INSIDE}/shims"
CODE_INSIDE = f"{SERVER_INSIDE}/src/function"
