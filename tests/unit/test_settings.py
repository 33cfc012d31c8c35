"""Settings: one table, four origins, every problem said at once."""

from pathlib import Path

import pytest

from hearth.settings import SettingsInvalid, load


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    config = tmp_path / "hearth.toml"
    config.write_text('port = 1001\nhost = "127.0.0.3"\ngrace = 7\n')
    environment = {"HEARTH_PORT": "1002", "HEARTH_HOST": "127.0.0.2"}
    loaded = load({"port": 1003}, environment, config)
    assert (loaded.settings.port, loaded.settings.host, loaded.settings.grace) == (1003, "127.0.0.2", 7.0)
    assert loaded.settings.build_timeout == 900
    origins = [loaded.origins[name] for name in ("port", "host", "grace", "build_timeout")]
    assert origins == ["--port", "HEARTH_HOST", str(config), "default"]


def test_an_empty_environment_variable_counts_as_not_set() -> None:
    assert load({}, {"HEARTH_PORT": ""}, None).origins["port"] == "default"


def test_every_problem_is_said_at_once_with_its_origin(tmp_path: Path) -> None:
    config = tmp_path / "hearth.toml"
    config.write_text('abuse = "maybe"\nprot = 1\n')
    with pytest.raises(SettingsInvalid) as caught:
        load({"grace": -1.0}, {"HEARTH_PORT": "eighty"}, config)
    text = "\n".join(caught.value.problems)
    assert "port (HEARTH_PORT): must be a whole number, not 'eighty'" in text
    assert f"abuse ({config}): must be one of on, off" in text
    assert f"prot ({config}): there is no such setting" in text
    assert "grace (--grace): must be from 0 to 3600" in text


def test_the_listener_of_the_metrics_has_a_host_and_a_port() -> None:
    for said, address in (("", None), ("0.0.0.0:9464", ("0.0.0.0", 9464)), ("[::1]:9", ("::1", 9))):
        assert load({}, {"HEARTH_METRICS_LISTEN": said}, None).settings.metrics_address == address
    for said in ("9464", "localhost", ":9464", "localhost:x", "localhost:70000"):
        with pytest.raises(SettingsInvalid, match="metrics_listen: must be host:port"):
            load({}, {"HEARTH_METRICS_LISTEN": said}, None)


def test_a_config_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    config = tmp_path / "broken.toml"
    config.write_text("= nothing")
    with pytest.raises(SettingsInvalid, match=r"broken\.toml: not TOML"):
        load({}, {}, config)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"database_url": "mysql://x"}, "database_url"),
        ({"uid_range": "5-9"}, "uid_range"),
        ({"uid_range": "many"}, "uid_range"),
        ({"files_url": "s3://bucket"}, "files_url"),
        ({"allowed_origins": "https://example.org"}, "allowed_origins"),
        ({"trusted_proxies": "10.0.0.1,proxy"}, "trusted_proxies"),
        ({"nats_url": "nats://x"}, "nats_url"),
        ({"sandbox_driver": "oci", "oci_runtime": "crun"}, "oci_runtime: must be runc, runsc or"),
        ({"sandbox_driver": "oci", "oci_runtime": "opt/runsc"}, "oci_runtime: must be"),
        ({"oci_runtime": "runsc"}, "set sandbox_driver to oci"),
    ],
)
def test_what_this_version_cannot_do_is_refused_and_not_ignored(flags: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsInvalid, match=complaint):
        load(flags, {}, None)


def test_the_data_folder_is_absolute_whatever_the_working_folder_is_later() -> None:
    assert load({"data_dir": Path("somewhere")}, {}, None).settings.data_dir.is_absolute()
