"""The driver `docker` without Docker: its client on a stand-in of the Engine API, the holder, the table of images."""

import json
import os
import shutil
import signal
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.cli.doctor import STRENGTHS, strength_of
from hearth.executor.run_specs import instance_spec, stem_kind, stem_spec
from hearth.executor.sandbox import docker, holder, messages
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.engine import Engine, EngineError
from hearth.executor.sandbox.spec import Limits, Mount, Profile, SandboxSpec
from hearth.model.running import Artifact, InstanceKey, InstanceTemplate
from hearth.runtimes.catalogue import InstalledPacks
from hearth.runtimes.families import OPEN_RUNTIMES
from hearth.runtimes.images import ImagePacks, parse_images
from hearth.runtimes.lent import lent_python
from hearth.runtimes.locations import CODE_BESIDE_SERVER, LENT_INSIDE, WRITTEN_BY_SERVER


class Standin:
    """Answers as the Engine API does (recorded from Docker 20.10), and keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.answers: dict[str, tuple[int, object]] = {
            "GET /version": (200, {"Version": "20.10.24", "ApiVersion": "1.41"}),
            "GET /images/python%3A3.12/json": (200, {"Id": "sha256:1", "Config": {"Env": ["PATH=/a:/b", "X=1=2"]}}),
            "GET /images/bare%3A1/json": (200, {"Id": "sha256:2", "Config": {"Env": None}}),
            "POST /containers/one/start": (204, None),
            "GET /containers/one/json": (200, {"State": {"Status": "running", "Pid": 4711}}),
        }
        standin = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                method, path, _ = self.rfile.readline().decode().split()
                length = 0
                while line := self.rfile.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                standin.asked.append((method, path, self.rfile.read(length)))
                missing = (404, {"message": f"No such thing: {path}"})
                status, answer = standin.answers.get(f"{method} {path.removeprefix('')}", missing)
                body = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
                self.wfile.write(b"HTTP/1.0 %d Whatever\r\nContent-Type: application/json\r\n\r\n" % status + body)

        self.path = str(folder / "d.sock")
        self._server = socketserver.ThreadingUnixStreamServer(self.path, Handler)
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.01))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Standin]:
    made = Standin(tmp_path)
    yield made
    made.close()


def test_the_client_speaks_the_engine_api(standin: Standin) -> None:
    engine = Engine(standin.path)
    assert engine.version() == "20.10.24"
    assert engine.has_image("python:3.12") and not engine.has_image("nothing")
    assert engine.image_environment("python:3.12") == {"PATH": "/a:/b", "X": "1=2"}
    assert engine.image_environment("bare:1") == {}
    assert engine.start("one") == 4711
    engine.remove("long gone")
    assert [path for _, path, _ in standin.asked][-1] == "/containers/long gone?force=true&v=true".replace(" ", "%20")


def test_a_refusal_is_told_in_the_daemons_words_and_a_missing_image_with_what_to_do(standin: Standin) -> None:
    engine = Engine(standin.path)
    with pytest.raises(EngineError, match="docker pull nothing:1"):
        engine.create("one", {"Image": "nothing:1"})
    method, path, body = standin.asked[-1]
    assert (method, path, json.loads(body)) == ("POST", "/containers/create?name=one", {"Image": "nothing:1"})
    standin.answers["POST /containers/one/start"] = (500, {"message": "OCI runtime create failed"})
    with pytest.raises(EngineError, match="OCI runtime create failed") as caught:
        engine.start("one")
    assert caught.value.status == 500


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n\r\n", b"\xff\r\n\r\n"])
def test_an_answer_that_is_none_is_said_to_be_strange(standin: Standin, answer: bytes) -> None:
    standin.answers["GET /version"] = (200, b"{" + answer)
    with pytest.raises(EngineError, match="strange"):
        Engine(standin.path).version()


def test_a_socket_nobody_listens_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nobody\.sock: No such file"):
        Engine(f"{tmp_path}/nobody.sock").version()


def test_a_sweep_removes_what_has_the_label_until_it_is_gone(standin: Standin) -> None:
    listed = "GET /containers/json?all=true&filters=%7B%22label%22%3A+%5B%22hearth.server%3Dh-1%22%5D%7D"
    standin.answers[listed] = (200, [{"Names": ["/h-1-a"]}, {"Names": ["/h-1-b"]}])

    class Forgetful(Engine):
        def remove(self, name: str) -> None:
            super().remove(name)
            standin.answers[listed] = (200, [])

    assert Forgetful(standin.path).sweep("hearth.server=h-1") == 2
    assert [path for method, path, _ in standin.asked if method == "DELETE"] == [
        f"/containers/h-1-{name}?force=true&v=true" for name in "ab"
    ]


def test_the_facilities_name_the_daemon_and_the_images_that_are_missing(
    standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SpawnerConfig(
        str(tmp_path), 1, 1, driver="docker", docker_socket=standin.path, images=("python:3.12", "x:1")
    )
    daemon, images = docker.facility(config)
    assert daemon.ok and "20.10.24" in daemon.detail
    assert (images.ok, images.mandatory, images.fix) == (False, False, "docker pull x:1")
    assert all(one.ok for one in docker.facility(replace(config, images=("python:3.12",))))
    (gone,) = docker.facility(replace(config, docker_socket=f"{tmp_path}/nobody.sock"))
    assert not gone.ok and gone.mandatory and "HEARTH_DOCKER_SOCKET" in gone.fix and gone.flag == ""
    (no_root,) = docker.facility(replace(config, outer_uids=(1, 2)))
    assert not no_root.ok and "root" in no_root.fix


def test_the_holder_is_a_program_that_ignores_its_childrens_ends_and_waits(tmp_path: Path) -> None:
    path = tmp_path / "holder"
    path.write_bytes(holder.program())
    path.chmod(0o755)
    process = subprocess.Popen([path], env={})
    try:
        deadline = time.monotonic() + 10
        ignored = 0
        while not ignored & 1 << (signal.SIGCHLD - 1):
            assert process.poll() is None and time.monotonic() < deadline
            rows = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            ignored = int(rows["SigIgn"], 16)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(holder.program("aarch64")) == 64 + 56 + 64
    with pytest.raises(OSError, match="riscv64"):
        holder.program("riscv64")


def test_the_table_of_images_names_runtimes_that_an_image_can_serve() -> None:
    rows = parse_images("python-3.12=python:3.12-slim, node-22=registry.test:5000/n/node@sha256:0a#/usr/bin/node")
    assert [(row.runtime, row.image, row.interpreter) for row in rows] == [
        ("python-3.12", "python:3.12-slim", "/usr/local/bin/python3"),
        ("node-22", "registry.test:5000/n/node@sha256:0a", "/usr/bin/node"),
    ]
    packs = ImagePacks(rows, InstalledPacks(()))
    pack = packs.get("python-3.12")
    assert pack is not None and pack.image == "python:3.12-slim" and pack.shim[0] == "/usr/local/bin/python3"
    assert [one.id for one in packs.all()] == ["python-3.12", "node-22"]
    assert packs.get("ruby-3.3") is None


def test_an_image_with_a_server_of_its_own_gets_a_bridge_and_a_python_that_is_lent() -> None:
    rows = parse_images("python-3.12=openruntimes/python:v5-3.12#http,node-22=openruntimes/node:v5-22#http")
    packs = ImagePacks(rows, InstalledPacks(()))
    python, node = packs.get("python-3.12"), packs.get("node-22")
    assert python is not None and node is not None
    assert (python.image, python.interpreter, python.family) == ("openruntimes/python:v5-3.12", "", OPEN_RUNTIMES)
    assert (python.shim[-1], node.shim[-1]) == ("one", "many")
    assert python.shim[: len(python.python)] == python.python and python.mounts == (("/usr", LENT_INSIDE),)
    loader, _, libraries, program = python.python
    assert all(path.startswith(f"{LENT_INSIDE}/") for path in (loader, libraries, program))
    template = InstanceTemplate(
        InstanceKey("d", "", ""), "p", "f", "python-3.12", Artifact("k", "d", 1), "m", {}, 1, 256
    )
    spec = instance_spec(1, template, python, "/data/code")
    assert spec.scratch == WRITTEN_BY_SERVER and spec.mounts[-1] == Mount("/data/code", CODE_BESIDE_SERVER)
    assert stem_spec(1, stem_kind(template, python), python, spec.limits).mount_point == CODE_BESIDE_SERVER


def test_a_python_that_cannot_be_lent_is_named(tmp_path: Path) -> None:
    script = tmp_path / "python3"
    script.write_text("#!/bin/sh")
    with pytest.raises(ValueError, match=r"python3 cannot be lent .* no program for 64 bits"):
        lent_python(str(script))
    shutil.copy(os.path.realpath("/usr/bin/python3"), script)
    with pytest.raises(ValueError, match="need a Python below /usr"):
        lent_python(str(script))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python-3.12", "RUNTIME=IMAGE"),
        ("python-3.12=-v", "RUNTIME=IMAGE"),
        ("python-3.12=a b", "RUNTIME=IMAGE"),
        ("cobol-1=x", "no runtime 'cobol-1'"),
        ("go-1.23=golang:1.23", "cannot run in an image"),
        ("go-1.23=openruntimes/go:v5-1.23#http", "cannot run in an image"),
        ("python-3.12=a,python-3.12=b", "named twice"),
        ("python-3.12=a#bin/python", "absolute path"),
        ("python-3.12=a#/bin/../python", "absolute path"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_named_with_the_rule(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_images(text)


def test_the_spawner_takes_only_the_images_it_was_told_of(tmp_path: Path) -> None:
    config = SpawnerConfig(str(tmp_path), 1, 1, driver="docker", images=("a:1",))
    spec = SandboxSpec("x", Profile.RUN, ("/bin/a",), {}, Limits(64 << 20, 1.0), image="a:1", channel=False)
    assert messages.start_request(messages.start_message(1, spec), config, 1).spec.image == "a:1"
    for wrong in ("b:1", "a:1 ", "../a:1"):
        with pytest.raises(messages.BadMessage, match="not one of the configured images"):
            messages.start_request(messages.start_message(1, replace(spec, image=wrong)), config, 1)
    scratch = replace(spec, scratch=("/mnt/logs",))
    assert messages.start_request(messages.start_message(1, scratch), config, 1).spec == scratch
    inside = Mount(str(tmp_path / "a"), "/mnt/logs/b")
    for bad, rule in (
        (replace(scratch, image=""), "no image"),
        (replace(scratch, scratch=("/etc",)), "not below"),
        (replace(scratch, mounts=(inside,)), "something is mounted in"),
        (replace(scratch, scratch=tuple(f"/mnt/{n}" for n in range(9))), "up to 8"),
    ):
        with pytest.raises(messages.BadMessage, match=rule):
            messages.start_request(messages.start_message(1, bad), config, 1)


def test_the_doctor_names_a_strength_for_every_driver() -> None:
    names = {strength_of(driver, is_root=root) for driver in ("ns", "oci", "docker") for root in (True, False)}
    names.add(strength_of("oci", is_root=True, has_gvisor=True))
    assert names == set(STRENGTHS)
    assert all("withstands" in text and "kernel" in text for text in STRENGTHS.values())
