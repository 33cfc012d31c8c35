"""Where things are: the shims on this machine, and what a sandbox shows of them and of the code.

The folders inside are those of the reference runtimes, because functions know them (contract: runtime-contract 7).
"""

from pathlib import Path

SHIMS_FOLDER = Path(__file__).resolve().parent / "shims"

SERVER_INSIDE = "/usr/local/server"
SHIMS_INSIDE = f"{SERVER_INSIDE}/shims"
CODE_INSIDE = f"{SERVER_INSIDE}/src/function"

#: Where a server of an image's own, which unpacks or links its code itself, is shown it; also in its bridge.
CODE_BESIDE_SERVER = "/opt/hearth/code"
#: What such a server writes into: its code's folder, its logs, and what it measures.
WRITTEN_BY_SERVER = (CODE_INSIDE, "/mnt/code", "/mnt/logs", "/mnt/telemetry")
#: This machine's /usr, lent to a sandbox that has an image's.
LENT_INSIDE = "/opt/hearth/usr"
