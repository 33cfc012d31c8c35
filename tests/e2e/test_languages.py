"""Real programs in each language: built and run by the server as a user's would be."""

import shutil
from collections.abc import Iterator

import httpx
import pytest

from tests.support.api import create_function, deploy, execute, ok
from tests.support.interpreters import PACKS, any_pack_of
from tests.support.packs import wants_all
from tests.support.server import running_server

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

SPECIFICATION = "s-1vcpu-1gb"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with running_server({"HEARTH_PACKS_DIR": str(PACKS)}) as server, server.client() as opened:
        yield opened


def answer(client: httpx.Client, family: str, files: dict[str, str | bytes], entrypoint: str, **settings: str) -> str:
    """Deploy a function and return what its first execution answers; fails with the words of build or execution."""
    id = "-".join([family, entrypoint.replace("/", "-").replace(".", "-")])
    settings = {"entrypoint": entrypoint, **settings}
    create_function(
        client, id, any_pack_of(family).id, execute=["any"], timeout=60, specification=SPECIFICATION, **settings
    )
    deployment = deploy(client, id, files)
    assert deployment["status"] == "ready", deployment["buildLogs"][-3000:]
    execution = execute(client, id, path="/hello/world")
    assert (execution["status"], execution["errors"]) == ("completed", ""), execution["errors"] + execution["logs"]
    body = execution["responseBody"]
    assert isinstance(body, str)
    return body


def refused(client: httpx.Client, family: str, entrypoint: str, *attempts: tuple[dict[str, str | bytes], str]) -> None:
    """Deploy code that does not compile, one after the other; each build fails, and its log holds the second text."""
    id = f"{family}-broken"
    create_function(client, id, any_pack_of(family).id, entrypoint=entrypoint, specification=SPECIFICATION)
    for files, said in attempts:
        deployment = deploy(client, id, files)
        assert deployment["status"] == "failed", deployment["buildLogs"][-3000:]
        assert said in deployment["buildLogs"]


def test_a_php_project_with_composers_autoloading(client: httpx.Client) -> None:
    """As `composer dump-autoload` lays it out; nothing is downloaded."""
    files: dict[str, str | bytes] = {
        "composer.json": '{"autoload": {"psr-4": {"Shop\\\\": "src/"}}}',
        "vendor/autoload.php": (
            "<?php\nspl_autoload_register(function ($class) {\n"
            "    $file = __DIR__ . '/../src/' . str_replace('\\\\', '/', substr($class, 5)) . '.php';\n"
            "    if (str_starts_with($class, 'Shop\\\\') && is_file($file)) { require $file; }\n});\n"
        ),
        "src/Model/Item.php": (
            "<?php\nnamespace Shop\\Model;\n"
            "final class Item { public function __construct(public string $name, public int $cents) {} }\n"
        ),
        "src/Basket.php": (
            "<?php\nnamespace Shop;\nuse Shop\\Model\\Item;\nfinal class Basket {\n"
            "    private array $items = [];\n"
            "    public function add(Item $item): static { $this->items[] = $item; return $this; }\n"
            "    public function total(): int { return array_sum(array_column($this->items, 'cents')); }\n}\n"
        ),
        "index.php": (
            "<?php\nrequire 'vendor/autoload.php';\nuse Shop\\Basket;\nuse Shop\\Model\\Item;\n"
            "return function ($context) {\n"
            "    $basket = (new Basket())->add(new Item('cup', 250))->add(new Item('pot', 1000));\n"
            "    return $context->res->json(['total' => $basket->total(), 'path' => $context->req->path]);\n};\n"
        ),
    }
    assert answer(client, "php", files, "index.php") == '{"total":1250,"path":"/hello/world"}'


def test_a_ruby_gem_that_the_build_installs(client: httpx.Client) -> None:
    files: dict[str, str | bytes] = {
        "greeting/greeting.gemspec": (
            "Gem::Specification.new do |spec|\n  spec.name = 'greeting'\n  spec.version = '1.2.0'\n"
            "  spec.summary = 'Greets'\n  spec.authors = ['us']\n  spec.files = ['lib/greeting.rb']\nend\n"
        ),
        "greeting/lib/greeting.rb": 'module Greeting\n  def self.to(name)\n    "Hello #{name}"\n  end\nend\n',
        "index.rb": (
            "require 'greeting'\n"
            "def main(context)\n  name = context.req.path.split('/').last\n"
            "  version = Gem.loaded_specs['greeting'].version\n"
            '  context.res.text("#{Greeting.to(name)} (#{version})")\nend\n'
        ),
    }
    commands = "cd greeting && gem build greeting.gemspec && gem install --local --no-document greeting-1.2.0.gem"
    assert answer(client, "ruby", files, "index.rb", commands=commands) == "Hello world (1.2.0)"


def test_a_go_module_with_packages_of_its_own(client: httpx.Client) -> None:
    """With a requirement that is replaced by a folder, and initialization that reads a variable."""
    files: dict[str, str | bytes] = {
        "go.mod": (
            "module openruntimes/handler\n\ngo 1.23\n\n"
            "require (\n\tgithub.com/open-runtimes/types-for-go/v4 v4.0.1\n\texample.com/words v0.0.0\n)\n\n"
            "replace example.com/words => ./third/words\n"
        ),
        "main.go": (
            'package handler\n\nimport (\n\t"os"\n\n\t"example.com/words"\n'
            '\t"github.com/open-runtimes/types-for-go/v4/openruntimes"\n\t"openruntimes/handler/internal/greet"\n)\n\n'
            'var region = os.Getenv("APPWRITE_FUNCTION_NAME")\n\n'
            "func Main(Context openruntimes.Context) openruntimes.Response {\n"
            '\treturn Context.Res.Text(greet.To(words.World) + " from " + region)\n}\n'
        ),
        "internal/greet/greet.go": 'package greet\n\nfunc To(name string) string {\n\treturn "Hello " + name\n}\n',
        "third/words/go.mod": "module example.com/words\n\ngo 1.21\n",
        "third/words/words.go": 'package words\n\nconst World = "world"\n',
    }
    assert answer(client, "go", files, "main.go") == "Hello world from go-main-go"


def test_a_go_handler_that_does_not_compile_fails_its_build(client: httpx.Client) -> None:
    module = "module openruntimes/handler\n\ngo 1.23\n"
    refused(
        client,
        "go",
        "main.go",
        ({"go.mod": module, "main.go": "package handler\n\nfunc Main( {\n"}, "./main.go:3:12: syntax error"),
        ({"go.mod": module, "main.go": "package handler\n"}, "undefined: handler.Main"),
        ({"main.go": "package handler\n"}, "There is no go.mod that names a module"),
    )


CPP = (
    '#include "RuntimeContext.h"\n#include "words/greet.h"\n\nnamespace runtime {\nclass Handler {\npublic:\n'
    "  static RuntimeOutput main(RuntimeContext &context) {\n"
    '    return context.res.text(greet(context.req.path.substr(7)) + " from " + name + ", " +\n'
    "                            std::to_string(__cplusplus / 100));\n  }\n\n"
    'private:\n  static inline const std::string name = std::getenv("APPWRITE_FUNCTION_NAME");\n};\n}\n'
)


def test_a_cpp_function_with_a_header_of_its_own(client: httpx.Client) -> None:
    """Its runtime is a standard of the language; initialization reads a variable."""
    greet = '#include <string>\ninline std::string greet(const std::string &name) { return "Hello " + name; }\n'
    files: dict[str, str | bytes] = {"index.cc": CPP, "words/greet.h": greet}
    assert answer(client, "cpp", files, "index.cc") == "Hello world from cpp-index-cc, 2017"


@pytest.mark.skipif(
    not (wants_all() and shutil.which("cmake", path="/usr/bin")), reason="only with HEARTH_TEST_ALL_PACKS=1 and a cmake"
)
def test_a_cpp_function_with_sources_that_cmake_adds(client: httpx.Client) -> None:
    files: dict[str, str | bytes] = {
        "app.cc": CPP,
        "words/greet.h": "#include <string>\nstd::string greet(const std::string &name);\n",
        "words/greet.cc": '#include "greet.h"\nstd::string greet(const std::string &name) { return WORD + name; }\n',
        "CMakeLists.txt": (
            "target_sources(cpp_runtime PRIVATE src/words/greet.cc)\n"
            'target_compile_definitions(cpp_runtime PRIVATE "WORD=\\"Hello \\"")\n'
        ),
    }
    assert answer(client, "cpp", files, "app.cc") == "Hello world from cpp-app-cc, 2017"


def test_a_cpp_handler_that_does_not_compile_fails_its_build(client: httpx.Client) -> None:
    refused(
        client,
        "cpp",
        "src/index.cc",
        ({"src/index.cc": "namespace runtime {\n  int broken( { }\n}\n"}, "src/index.cc:2:"),
        ({"src/index.cc": "int x;\n"}, "runtime::Handler"),
    )


def test_static_files_that_the_build_makes(client: httpx.Client) -> None:
    """The output folder is what is served; nobody has to name a file."""
    files: dict[str, str | bytes] = {"page.txt": "made", "index.html": "not this one"}
    create_function(
        client,
        "site",
        "static-1",
        execute=["any"],
        entrypoint="none",
        commands="mkdir -p out/hello && cp page.txt out/hello",
    )
    made = ok(client.post("/functions/site/variables", json={
        "variableId": "out", "key": "OPEN_RUNTIMES_OUTPUT_DIRECTORY", "value": "./out"
    }))  # fmt: skip
    assert made["key"] == "OPEN_RUNTIMES_OUTPUT_DIRECTORY"
    deployment = deploy(client, "site", files)
    assert deployment["status"] == "ready", deployment["buildLogs"][-3000:]
    assert "There is no index.html in the root folder" in deployment["buildLogs"]
    found = execute(client, "site", path="/hello/page.txt", method="GET")
    assert (found["responseStatusCode"], found["responseBody"]) == (200, "made")
    assert execute(client, "site", path="/index.html", method="GET")["responseStatusCode"] == 404


def test_a_java_function_with_classes_of_its_own_and_a_jar(client: httpx.Client) -> None:
    """A jar that the build commands make, a resource of the source, and initialization that reads a variable."""
    files: dict[str, str | bytes] = {
        "Index.java": (
            "package io.openruntimes.java;\n\nimport io.openruntimes.java.shop.Basket;\n\npublic class Index {\n"
            '  private static final String NAME = System.getenv("APPWRITE_FUNCTION_NAME");\n\n'
            "  public RuntimeOutput main(RuntimeContext context) throws Exception {\n"
            '    java.io.InputStream currency = Index.class.getResourceAsStream("/texts/currency.txt");\n'
            "    String unit = new java.util.Scanner(currency).next();\n"
            '    return context.getRes().text(greeting.Greeting.to(NAME) + " " + new Basket().total() + unit);\n'
            "  }\n}\n"
        ),
        "shop/Basket.java": (
            "package io.openruntimes.java.shop;\n\nimport java.util.List;\n\npublic class Basket {\n"
            "  private record Item(String name, int cents) {}\n\n"
            "  public int total() {\n"
            '    return List.of(new Item("cup", 250), new Item("pot", 1000)).stream().mapToInt(Item::cents).sum();\n'
            "  }\n}\n"
        ),
        "texts/currency.txt": "ct\n",
        "greeting.txt": (
            "package greeting;\n\npublic class Greeting {\n"
            '  public static String to(String name) { return "Hello " + name; }\n}\n'
        ),
        "build.gradle": "dependencies {}\n",
    }
    commands = (
        "mkdir -p made/src lib && cp greeting.txt made/src/Greeting.java && javac -d made/classes made/src/*.java && "
        "jar cf lib/greeting.jar -C made/classes . && rm -r made"
    )
    assert answer(client, "java", files, "Index.java", commands=commands) == "Hello java-Index-java 1250ct"
    logs = client.get("/functions/java-Index-java/deployments").json()["deployments"][0]["buildLogs"]
    assert "build.gradle is not used" in logs


def test_a_java_handler_that_does_not_compile_fails_its_build(client: httpx.Client) -> None:
    code: dict[str, str | bytes] = {"Index.java": "public class Index {\n  int main() { return 5 }\n}\n"}
    refused(client, "java", "Index.java", (code, "Index.java:2: error: ';' expected"))


def test_a_kotlin_function_with_java_beside_it_and_a_jar(client: httpx.Client) -> None:
    """Java uses Kotlin and Kotlin Java; a jar that the build commands make, and a resource of the source."""
    files: dict[str, str | bytes] = {
        "src/Main.kt": (
            "package shop\n\nimport greeting.Greeting\nimport io.openruntimes.kotlin.RuntimeContext\n"
            "import io.openruntimes.kotlin.RuntimeOutput\n\ndata class Item(val name: String, val cents: Int)\n\n"
            "object Main {\n  @JvmStatic\n  fun main(context: RuntimeContext): RuntimeOutput {\n"
            '    val unit = Main::class.java.getResource("/texts/currency.txt")!!.readText().trim()\n'
            '    val total = Basket().add(Item("cup", 250)).add(Item("pot", 1000)).total()\n'
            "    val name = context.req.path.substringAfterLast('/')\n"
            '    return context.res.text("${Greeting.to(name)} $total$unit", headers = mapOf("a" to "b"))\n'
            "  }\n}\n"
        ),
        "src/Basket.java": (
            "package shop;\n\npublic class Basket {\n  private int total;\n\n"
            "  public Basket add(Item item) { total += item.getCents(); return this; }\n\n"
            "  public int total() { return total; }\n}\n"
        ),
        "texts/currency.txt": "ct\n",
        "greeting.txt": (
            "package greeting;\n\npublic class Greeting {\n"
            '  public static String to(String name) { return "Hello " + name; }\n}\n'
        ),
    }
    commands = (
        "mkdir -p made/src lib && cp greeting.txt made/src/Greeting.java && javac -d made/classes made/src/*.java && "
        "jar cf lib/greeting.jar -C made/classes . && rm -r made"
    )
    assert answer(client, "kotlin", files, "src/Main.kt", commands=commands) == "Hello world 1250ct"
    refused(client, "kotlin", "A.kt", ({"A.kt": "class A {\n    fun main(): Int = true\n}\n"}, "A.kt:2:23: error: "))


def test_a_dart_function_with_a_package_of_its_own_folder(client: httpx.Client) -> None:
    """`dart pub get` without a registry: packages by path."""
    files: dict[str, str | bytes] = {
        "pubspec.yaml": (
            "name: shop\nenvironment:\n  sdk: '>=2.17.0 <4.0.0'\ndependencies:\n  greet:\n    path: packages/greet\n"
        ),
        "packages/greet/pubspec.yaml": "name: greet\nenvironment:\n  sdk: ^3.0.0\n",
        "packages/greet/lib/greet.dart": "String greet(String name) => 'Hello $name';\n",
        "lib/src/basket.dart": (
            "class Basket {\n  final cents = <int>[];\n  int get total => cents.fold(0, (sum, one) => sum + one);\n}\n"
        ),
        "lib/main.dart": (
            "import 'dart:io';\n\nimport 'package:greet/greet.dart';\nimport 'package:shop/src/basket.dart';\n\n"
            "final unit = Platform.environment['APPWRITE_FUNCTION_NAME'];\n\n"
            "Future<dynamic> main(final context) async {\n  final basket = Basket()..cents.addAll([250, 1000]);\n"
            "  final name = context.req.path.split('/').last;\n"
            "  return context.res.text('${greet(name)} ${basket.total} $unit');\n}\n"
        ),
    }
    assert answer(client, "dart", files, "lib/main.dart") == "Hello world 1250 dart-lib-main-dart"
    unended = "main(context) => context.res.text('x')"
    refused(
        client,
        "dart",
        "main.dart",
        ({"main.dart": unended}, "main.dart:1:38: Error: Expected ';' after this."),
        ({"main.dart": "int answer = 42;\n"}, "'main'"),
    )


def test_a_deno_function_with_an_import_map_and_its_cache(client: httpx.Client) -> None:
    files: dict[str, str | bytes] = {
        "deno.json": '{"imports": {"greet": "./lib/greet.ts"}}',
        "lib/greet.ts": "export const greet = (name: string): string => `Hello ${name}`;\n",
        "src/mod.ts": (
            "import { greet } from 'greet';\n\ninterface Context {\n  req: { path: string };\n  res: any;\n}\n\n"
            "export default ({ req, res }: Context) => res.text(greet(req.path.split('/').pop() ?? ''));\n"
        ),
    }
    assert answer(client, "deno", files, "src/mod.ts", commands="deno cache src/mod.ts") == "Hello world"


def test_a_bun_function_with_an_installed_dependency(client: httpx.Client) -> None:
    """`bun install` of a package from a folder: nothing is downloaded."""
    files: dict[str, str | bytes] = {
        "package.json": '{"dependencies": {"greet": "file:./packages/greet"}}',
        "packages/greet/package.json": '{"name": "greet", "version": "1.0.0", "main": "index.ts"}',
        "packages/greet/index.ts": "export const greet = (name: string): string => `Hello ${name}`;\n",
        "src/main.ts": (
            "import { greet } from 'greet';\n"
            "export default ({ req, res }: any) => res.text(greet(req.path.split('/').pop()));\n"
        ),
    }
    assert answer(client, "bun", files, "src/main.ts", commands="bun install") == "Hello world"


def test_a_bundle_of_40_mb(client: httpx.Client) -> None:
    files: dict[str, str | bytes] = {
        "main.js": (
            "const fs = require('fs');\n"
            "module.exports = ({ res }) => res.text(`${fs.statSync(__dirname + '/big.bin').size}`);\n"
        )
    }
    commands = "head -c 40000000 /dev/urandom > big.bin"
    assert answer(client, "node", files, "main.js", commands=commands) == "40000000"


@pytest.mark.network
def test_an_express_app_and_a_native_module_in_node(client: httpx.Client) -> None:
    """Express answers behind the handler, over the sandbox's own loopback; sharp is compiled code."""
    files: dict[str, str | bytes] = {
        "package.json": '{"dependencies": {"express": "^5.0.0", "sharp": "^0.34.0"}}',
        "src/app.js": (
            "const express = require('express');\nconst sharp = require('sharp');\nconst app = express();\n"
            "app.get('/hello/:name', async (request, response) => {\n"
            "  const image = sharp({ create: { width: 8, height: 4, channels: 3, background: 'red' } });\n"
            "  const { width, height, format } = await sharp(await image.png().toBuffer()).metadata();\n"
            "  response.json({ name: request.params.name, width, height, format });\n});\n"
            "const listening = new Promise((resolve) => {\n"
            "  const server = app.listen(0, '127.0.0.1', () => resolve(server.address().port));\n});\n"
            "module.exports = async ({ req, res }) => {\n"
            "  const answer = await fetch(`http://127.0.0.1:${await listening}${req.path}`);\n"
            "  return res.text(await answer.text(), answer.status);\n};\n"
        ),
    }
    body = answer(client, "node", files, "src/app.js", commands="npm install")
    assert body == '{"name":"world","width":8,"height":4,"format":"png"}'


@pytest.mark.network
@pytest.mark.parametrize("entrypoint", ["mod.ts", "configured.ts"])
def test_npm_packages_in_deno(client: httpx.Client, entrypoint: str) -> None:
    """What the build has cached is there when the function runs, with a deno.json and without."""
    configured = entrypoint == "configured.ts"
    files: dict[str, str | bytes] = {
        entrypoint: f"import isOdd from '{'odd' if configured else 'npm:is-odd@3.0.1'}';\n"
        "export default ({ res }: any) => res.text(String(isOdd(3)));\n"
    }
    if configured:
        files["deno.json"] = '{"imports": {"odd": "npm:is-odd@3.0.1"}}'
    assert answer(client, "deno", files, entrypoint, commands=f"deno cache {entrypoint}") == "true"


@pytest.mark.network
def test_numpy_and_pandas_in_python(client: httpx.Client) -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": "numpy\npandas\n",
        "main.py": (
            "import numpy\nimport pandas\n\n\ndef main(context):\n"
            "    frame = pandas.DataFrame({'value': numpy.arange(4), 'kind': ['a', 'b', 'a', 'b']})\n"
            "    return context.res.json(frame.groupby('kind')['value'].sum().to_dict())\n"
        ),
    }
    commands = "pip install -r requirements.txt"
    assert answer(client, "python", files, "main.py", commands=commands) == '{"a":2,"b":4}'
