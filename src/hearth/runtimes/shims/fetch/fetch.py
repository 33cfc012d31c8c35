"""The program of a fetch sandbox: `python3 -I -S .../shims/fetch/fetch.py`, as its first process."""

import os
import sys

# Isolated mode leaves the script's folder out of the path on purpose; ours is read-only and holds no user's file.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from shims.fetch.steps import main  # type: ignore[import-not-found]

if __name__ == "__main__":
    sys.exit(main())
