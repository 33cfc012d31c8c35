from pathlib import Path

import pytest

from hearth.runtimes.shims.build.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The folders of a build, empty, without its sandbox."""
    made = Layout(*(str(tmp_path / name) for name in ("build", "home", "registries")))
    for folder in (made.build, made.temporary):
        Path(folder).mkdir(parents=True)
    return made
