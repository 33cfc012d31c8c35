"""The recorded contract, where it is at hand: it is not part of the repository."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]


def contract_document(name: str) -> dict[str, Any]:
    """A JSON document of the contract folder; skips the test, with the reason, where there is none.

    The folder is `HEARTH_CONTRACT_DIR`, or `shared/contract` beside the checkout.
    """
    folder = Path(os.environ.get("HEARTH_CONTRACT_DIR") or _ROOT.parent / "shared" / "contract")
    path = folder / name
    if not path.is_file():
        pytest.skip(f"the contract's {name} is not here; HEARTH_CONTRACT_DIR names its folder")
    document = json.loads(path.read_text("utf-8"))
    assert isinstance(document, dict)
    return document
