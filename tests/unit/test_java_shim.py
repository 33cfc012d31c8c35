"""The compiled shim of Java that is in the repository."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hearth.runtimes.locations import SHIMS_FOLDER

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_jar_is_what_its_sources_give(tmp_path: Path) -> None:
    """`scripts/java-shim` makes it anew; the bytes are those of one major version of the compiler."""
    compiler = shutil.which("javac")
    version = (
        subprocess.run([compiler, "-version"], capture_output=True, text=True, check=True).stdout if compiler else ""
    )
    if not version.startswith("javac 17."):
        pytest.skip("facility: no javac 17 is on PATH")
    subprocess.run([sys.executable, ROOT / "scripts" / "java-shim", tmp_path / "made.jar"], check=True)
    assert (tmp_path / "made.jar").read_bytes() == (SHIMS_FOLDER / "java" / "hearth.jar").read_bytes()
