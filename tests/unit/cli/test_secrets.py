"""What the operator's commands show of a GitHub App: that it works, never its secrets."""

from pathlib import Path

import pytest

from hearth.cli import config
from hearth.cli.doctor import GREEN, RED, git_hosts
from hearth.settings import load
from tests.support.forges.github import app_key

SECRETS = {"HEARTH_GITHUB_CLIENT_SECRET": "hidden-1", "HEARTH_GITHUB_WEBHOOK_SECRET": "hidden-2"}
WHOLE = {
    **SECRETS,
    "HEARTH_GITHUB_APP_ID": "1234",
    "HEARTH_GITHUB_APP_SLUG": "hearth-of-acme",
    "HEARTH_GITHUB_APP_PRIVATE_KEY_FILE": "/does/not/exist",
    "HEARTH_GITHUB_CLIENT_ID": "Iv1",
}


@pytest.mark.parametrize("as_json", [False, True])
def test_config_hides_secrets(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert config.show(load({}, WHOLE, None), as_json=as_json) == 0
    shown = capsys.readouterr().out
    assert "hidden" not in shown
    assert "***" in shown


def test_doctor_says_whether_the_app_can_sign(tmp_path: Path) -> None:
    (none,) = git_hosts(load({}, {}, None).settings)
    assert none.colour == GREEN
    (unreadable,) = git_hosts(load({}, WHOLE, None).settings)
    assert (unreadable.colour, "No such file" in unreadable.detail, unreadable.fix != "") == (RED, True, True)
    path = tmp_path / "app.pem"
    path.write_text(app_key()[0])
    settings = load({}, {**WHOLE, "HEARTH_GITHUB_APP_PRIVATE_KEY_FILE": str(path)}, None).settings
    (good,) = git_hosts(settings)
    assert (good.colour, "hearth-of-acme" in good.detail) == (GREEN, True)
