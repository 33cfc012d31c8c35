"""Packs from the real registries: installed by the command, noticed by a running server, built with and executed."""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hearth.executor.sandbox.spec import Limits, Mount, Profile, SandboxSpec
from hearth.runtimes.pack_table import pack_table
from tests.support.api import create_function, deploy, execute, ok
from tests.support.packs import PACKS, install_packs, missing_program, wants_all
from tests.support.sandboxes import ns_driver
from tests.support.server import Server, running_server, server_folder

pytestmark = [pytest.mark.slow, pytest.mark.sandbox, pytest.mark.network]

#: One of each kind: from npm (also one with an npm of another major), from PyPI, and a root of a Debian suite.
DEFAULT = ("node-14.5", "node-24", "bun-1.3", "deno-2.6", "go-1.26", "php-8.4")
IDS = tuple(entry.id for entry in pack_table().all() if wants_all() or entry.id in DEFAULT)

#: What tells its own version, as a handler: family -> entrypoint and source.
HANDLERS = {
    "node": ("main.js", "module.exports = async ({ req, res }) => res.text(process.versions.node + req.bodyText);"),
    "bun": ("main.js", "module.exports = async ({ req, res }) => res.text(process.versions.bun + req.bodyText);"),
    "deno": ("main.ts", "export default async ({ req, res }: any) => res.text(Deno.version.deno + req.bodyText);"),
    "python": (
        "main.py",
        "import platform\ndef main(context):\n"
        "    return context.res.text(platform.python_version() + context.req.body_text)\n",
    ),
    "php": ("main.php", "<?php return fn ($context) => $context->res->text(PHP_VERSION . $context->req->bodyText);"),
    "ruby": ("main.rb", "def main(context)\n  context.res.text(RUBY_VERSION + context.req.body_text)\nend\n"),
    # With the libraries that functions of the reference find.
    "cpp": (
        "index.cc",
        '#include "RuntimeContext.h"\n#include <curl/curl.h>\n#include <openssl/evp.h>\n\nnamespace runtime {\n'
        "struct Handler {\n  static RuntimeOutput main(RuntimeContext &context) {\n"
        "    if (!curl_version() || !EVP_sha256()) return context.res.empty();\n"
        "    std::ostringstream version;\n"
        '    version << __GNUC__ << "." << __GNUC_MINOR__ << "." << __GNUC_PATCHLEVEL__;\n'
        "    return context.res.text(version.str() + context.req.bodyText);\n  }\n};\n}\n",
    ),
    "rust": (
        "main.rs",
        "use openruntimes::{Context, Response};\n\npub fn main(context: Context) -> Response {\n"
        '    let version = include_str!("version.txt").trim();\n'
        '    context.res.text(format!("{version}{}", context.req.body_text()), None, None)\n}\n',
    ),
    # Also what a system of its own has to bring: Gson, and certificates in a form of Java's.
    "java": (
        "Index.java",
        "package io.openruntimes.java;\n\nimport javax.net.ssl.*;\n\npublic class Index {\n"
        "  public RuntimeOutput main(RuntimeContext context) throws Exception {\n"
        "    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());\n"
        "    trust.init((java.security.KeyStore) null);\n"
        "    int known = ((X509TrustManager) trust.getTrustManagers()[0]).getAcceptedIssuers().length;\n"
        '    if (known < 20) throw new Exception("only " + known + " certificates");\n'
        '    String version = System.getProperty("java.version").replaceFirst("^1[.]8[.]0_", "8u");\n'
        "    String body = new com.google.gson.Gson().fromJson(context.getReq().getBodyText(), String.class);\n"
        "    return context.getRes().text(version + body);\n  }\n}\n",
    ),
    "dart": (
        "lib/main.dart",
        "import 'dart:io';\n\nFuture<dynamic> main(final context) async =>\n"
        "    context.res.text(Platform.version.split(' ').first + context.req.bodyText);\n",
    ),
    "kotlin": (
        "Index.kt",
        "package io.openruntimes.kotlin\n\nimport com.google.gson.Gson\nimport java.security.KeyStore\n"
        "import javax.net.ssl.*\n\nclass Index {\n  suspend fun main(context: RuntimeContext): RuntimeOutput {\n"
        "    val trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm())\n"
        "    trust.init(null as KeyStore?)\n"
        "    check((trust.trustManagers[0] as X509TrustManager).acceptedIssuers.size > 20)\n"
        "    val body = Gson().fromJson(context.req.bodyText, String::class.java)\n"
        '    return context.res.text("${KotlinVersion.CURRENT}" + body, headers = mapOf("a" to "b"))\n  }\n}\n',
    ),
}
#: What a program says of its version, where that is not the compiler's.
RUNNING = {"2.2.20-Beta2": "2.2.20", "2.4.0-dev-6891": "2.3.10"}
#: The version of each language's interpreter, as a build command prints it.
COMMANDS = {
    "node": "node --version && npm --version",
    "bun": "bun --version",
    "deno": "deno --version",
    "python": "python --version && pip --version",
    "php": "php --version && composer --version --no-ansi",
    "ruby": "ruby --version && bundle --version",
    "go": "go version && gofmt -h 2>&1 | head -1",
    "rust": "rustc --version | tee /dev/stderr | cut -d' ' -f2 > version.txt",
    "cpp": "g++ -v 2>&1 | tail -1",
    "java": "java -version 2>&1 | sed 's/1[.]8[.]0_/8u/'; javac -version",
    "dart": "dart --version",
    "kotlin": "unzip -p /usr/share/kotlin/*/*-all.jar META-INF/compiler.version",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server({"HEARTH_PACKS_DIR": str(PACKS)}) as made:
        yield made


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def version_of(id: str) -> str:
    return str(json.loads((PACKS / id / "pack.json").read_text())["version"])


def offered(client: httpx.Client) -> set[str]:
    return {row["$id"] for row in ok(client.get("/functions/runtimes"))["runtimes"]}


@pytest.mark.parametrize("id", IDS)
def test_a_function_of_an_installed_pack_is_built_and_runs_with_its_exact_version(
    client: httpx.Client, id: str
) -> None:
    if reason := missing_program([id]):
        pytest.skip(reason)
    install_packs([id])
    family = id.rpartition("-")[0]
    if id not in offered(client):
        pytest.skip(f"no shim for {family}")
    name = id.replace(".", "-")
    version = version_of(id)
    if family not in HANDLERS:
        pytest.skip(f"{family} has no handler here")
    entrypoint, source = HANDLERS[family]
    create_function(client, name, id, entrypoint=entrypoint, commands=COMMANDS[family], timeout=30)
    deployment = deploy(client, name, {entrypoint: source})
    assert deployment["status"] == "ready", deployment["buildLogs"]
    assert re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", deployment["buildLogs"]), deployment["buildLogs"]
    execution = execute(client, name, body="!")
    assert execution["status"] == "completed", execution["errors"]
    # Kotlin tells the version of its library, which a compiler in development is ahead of.
    assert execution["responseBody"] == f"{RUNNING.get(version, version)}!"


def test_a_pack_is_offered_by_a_running_server_as_soon_as_it_is_installed() -> None:
    with server_folder() as folder:
        packs = folder / "packs"
        server = Server(folder, {"HEARTH_PACKS_DIR": str(packs)})
        server.start()
        try:
            with server.client() as client:
                refused = client.post("/functions", json={"functionId": "f", "name": "f", "runtime": "bun-1.3"})
                assert refused.json()["type"] == "function_runtime_unsupported"
                assert "`hearth runtimes install bun-1.3`" in refused.json()["message"]
                assert "bun-1.3" not in offered(client)
                said = install_packs(["bun-1.3"], packs)
                assert re.search(r"bun-1\.3: 1\.3\.\d+ from npm, \d+ MB to download", said)
                assert "bun-1.3" in offered(client)
                create_function(client, "f", "bun-1.3", entrypoint="main.js")
        finally:
            code = server.stop()
        assert code == 0, server.log[-4000:]
        server.assert_nothing_left()


@pytest.mark.anyio
@pytest.mark.parametrize("id", [id for id in IDS if id.startswith("go-")])
async def test_a_pack_of_the_python_index_runs_in_a_sandbox(tmp_path: Path, id: str) -> None:
    await asyncio.to_thread(install_packs, [id])
    driver = ns_driver(tmp_path)
    try:
        spec = SandboxSpec(
            id="go",
            profile=Profile.RUN,
            argv=(f"/opt/runtimes/{id}/bin/go", "version"),
            environment={"HOME": "/tmp"},
            limits=Limits(256 << 20, 1.0),
            mounts=(Mount(str(PACKS / id / "files"), f"/opt/runtimes/{id}"),),
            channel=False,
        )
        sandbox = await driver.start(spec)
        ended = await sandbox.wait()
        said = os.read(sandbox.output, 4_096).decode()
        os.close(sandbox.output)
    finally:
        await driver.close()
    assert ended.code == 0, said
    assert f"go{version_of(id)} linux/" in said
