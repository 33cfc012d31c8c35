"""What builds are told of the machine's package registries."""

from pathlib import Path

import pytest

from hearth.runtimes.registries import Registries, client_registries

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBone\n-----END CERTIFICATE-----"


class Machine:
    """A home folder and an environment, and what builds get from them."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.home.mkdir()
        self.environment = {"XDG_CONFIG_DIRS": str(root / "xdg"), "PATH": str(root / "nothing")}
        self.root = root

    def pip(self, text: str) -> None:
        folder = self.home / ".config/pip"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pip.conf").write_text(text)

    def npm(self, text: str) -> None:
        (self.home / ".npmrc").write_text(text)

    def read(self) -> Registries:
        return client_registries(self.environment, self.home)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    # The files outside a home folder are this machine's own; they are not what is tested.
    monkeypatch.setattr("hearth.runtimes.clientconfig.SYSTEM_PIP_CONF", tmp_path / "etc-pip.conf")
    monkeypatch.setattr("hearth.runtimes.clientconfig.SITE_FOLDER", tmp_path / "site")
    return Machine(tmp_path)


def test_a_machine_without_any_configuration_uses_the_public_registries(machine: Machine) -> None:
    found = machine.read()
    assert dict(found.pip)["index-url"] == "https://pypi.org/simple"
    assert dict(found.npm)["registry"] == "https://registry.npmjs.org/"
    assert found.hosts == ("pypi.org:443", "files.pythonhosted.org:443", "registry.npmjs.org:443")
    assert found.warnings == ()
    assert found.files("/r").keys() == {"pip.conf", "npmrc"}
    assert found.environment("/r") == {"PIP_CONFIG_FILE": "/r/pip.conf", "NPM_CONFIG_GLOBALCONFIG": "/r/npmrc"}


def test_pip_sources_are_merged_in_pips_order(machine: Machine) -> None:
    system = machine.root / "xdg/pip"
    system.mkdir(parents=True)
    (system / "pip.conf").write_text("[global]\nindex-url = https://system.example/a\ntimeout = 9\n")
    machine.pip("[global]\nindex_url = https://user.example/b\n[install]\ntrusted-host = one.example two.example\n")
    assert dict(machine.read().pip)["index-url"] == "https://user.example/b"
    chosen = machine.root / "chosen.conf"
    chosen.write_text("[install]\nindex-url = https://chosen.example/c\n")
    machine.environment["PIP_CONFIG_FILE"] = str(chosen)
    assert dict(machine.read().pip)["index-url"] == "https://chosen.example/c"
    machine.environment["PIP_INDEX_URL"] = "http://variable.example:8081/d"
    found = machine.read()
    assert dict(found.pip)["index-url"] == "http://variable.example:8081/d"
    assert dict(found.pip)["trusted-host"] == "one.example two.example"
    assert dict(found.pip)["timeout"] == "9"
    assert "variable.example:8081" in found.hosts
    assert "pypi.org:443" not in found.hosts


def test_pip_reads_no_file_when_told_so(machine: Machine) -> None:
    machine.pip("[global]\nindex-url = https://user.example/b\n")
    machine.environment["PIP_CONFIG_FILE"] = "/dev/null"
    assert dict(machine.read().pip)["index-url"] == "https://pypi.org/simple"


def test_local_paths_stay_outside(machine: Machine) -> None:
    machine.pip(
        "[global]\nfind-links = /opt/wheels\nconstraint = /etc/c.txt\nindex-url = file:///opt/simple\n"
        "extra-index-url = file:///opt/more\n    https://extra.example/simple\n"
    )
    found = machine.read()
    text = found.files("/r")["pip.conf"]
    assert "/opt" not in text
    assert "/etc/c.txt" not in text
    assert dict(found.pip)["index-url"] == "https://pypi.org/simple"
    assert dict(found.pip)["extra-index-url"] == "https://extra.example/simple"
    assert any("index-url" in warning for warning in found.warnings)


def test_credentials_stay_outside_and_are_said_to(machine: Machine) -> None:
    machine.pip("[global]\nindex-url = https://me:hunter2@private.example/simple\n")
    machine.npm(
        "registry=https://me:hunter2@npm.example/\n//npm.example/:_authToken=hunter2\n_auth=hunter2\n"
        "//npm.example/:_password=hunter2\n"
    )
    machine.environment["npm_config__authtoken"] = "hunter2"
    found = machine.read()
    everything = "".join(found.files("/r").values()) + repr(found)
    assert "hunter2" not in everything
    assert "me:" not in everything
    assert dict(found.pip)["index-url"] == "https://private.example/simple"
    assert dict(found.npm)["registry"] == "https://npm.example/"
    assert any("npm credentials" in warning for warning in found.warnings)
    assert any(
        "pip index-url https://private.example/simple holds credentials" in warning for warning in found.warnings
    )


def test_npm_settings_that_matter_are_taken_over(machine: Machine) -> None:
    machine.npm(
        '; comment\nregistry = "https://npm.example:8443/npm/"\n@acme:registry=${ACME}/npm\nstrict-ssl=false\n'
        "omit-lockfile-registry-resolved\nprefix=/opt/x\nproxy=http://proxy.example:3128\n"
    )
    machine.environment["ACME"] = "http://acme.example"
    found = machine.read()
    assert dict(found.npm) == {
        "audit": "false",
        "fund": "false",
        "update-notifier": "false",
        "registry": "https://npm.example:8443/npm/",
        "@acme:registry": "http://acme.example/npm",
        "strict-ssl": "false",
        "omit-lockfile-registry-resolved": "true",
    }
    assert found.hosts[-2:] == ("npm.example:8443", "acme.example:80")


def test_npm_variables_count_more_than_its_files_and_name_other_files(machine: Machine) -> None:
    other = machine.root / "other"
    other.write_text("registry=https://file.example/\nstrict-ssl=false\n")
    machine.npm("registry=https://ignored.example/\n")
    machine.environment["NPM_CONFIG_USERCONFIG"] = str(other)
    assert dict(machine.read().npm)["registry"] == "https://file.example/"
    machine.environment["npm_config_registry"] = "https://variable.example/"
    found = machine.read()
    assert dict(found.npm)["registry"] == "https://variable.example/"
    assert dict(found.npm)["strict-ssl"] == "false"


def test_certificates_of_both_clients_become_one_bundle_that_holds_nothing_else(machine: Machine) -> None:
    first, second = machine.root / "a.pem", machine.root / "b.pem"
    first.write_text(f"# comment\n{CERTIFICATE}\n")
    second.write_text(
        f"{CERTIFICATE}\n-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"
        + CERTIFICATE.replace("one", "two")
    )
    machine.pip(f"[global]\ncert = {first}\n")
    machine.npm(f"cafile={second}\n")
    found = machine.read()
    files = found.files("/r")
    assert files["ca.crt"].count("BEGIN CERTIFICATE") == 2
    assert "secret" not in files["ca.crt"]
    assert "cert = /r/ca.crt\n" in files["pip.conf"]
    assert "cafile=/r/ca.crt\n" in files["npmrc"]
    assert found.environment("/r")["NODE_EXTRA_CA_CERTS"] == "/r/ca.crt"


@pytest.mark.parametrize("text", ["[global", "index-url = x", "[global]\nindex-url = https://[bad\n", "\0\xff"])
def test_a_broken_pip_configuration_does_not_stop_the_server(machine: Machine, text: str) -> None:
    machine.pip(text)
    assert dict(machine.read().pip)["index-url"] == "https://pypi.org/simple"


def test_an_unreadable_bundle_is_a_warning(machine: Machine) -> None:
    machine.npm("cafile=/nonexistent/ca.pem\n")
    found = machine.read()
    assert found.ca == ""
    assert any("/nonexistent/ca.pem cannot be read" in warning for warning in found.warnings)


def test_where_go_gets_modules_is_passed_on_without_credentials(machine: Machine) -> None:
    """Words that are no addresses stay; an address that builds cannot reach leaves Go's own default."""
    found = client_registries(
        {"GOPROXY": "https://me:secret@go.example:8443/proxy,http://b.example|direct", "GOSUMDB": "off"}, machine.home
    )
    assert found.go == (("GOPROXY", "https://go.example:8443/proxy,http://b.example|direct"), ("GOSUMDB", "off"))
    assert {"go.example:8443", "b.example:80"} <= set(found.hosts)
    assert found.environment("/in")["GOPROXY"] == found.go[0][1]
    assert "secret" not in str(found)
    assert client_registries({"GOPROXY": "off"}, machine.home).go == (("GOPROXY", "off"),)
    local = client_registries({"GOPROXY": "file:///srv/go", "GOPRIVATE": "*.corp"}, machine.home)
    assert local.go == (("GOPRIVATE", "*.corp"),)
    assert any("GOPROXY" in warning for warning in local.warnings)
