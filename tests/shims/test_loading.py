"""How a handler is found, and what is said when it is not (contract: runtime-contract 1 and 5)."""

import json
from pathlib import Path

import pytest

import hearth.data
from hearth.cli.client.init import STARTERS
from hearth.model.running import InstanceTemplate, Outcome
from hearth.runtimes.families import family_of
from tests.support.executors import Bench, folder_files
from tests.support.interpreters import any_pack_of, built
from tests.support.process_driver import ProcessDriver

pytestmark = pytest.mark.anyio

HELLO = "({ res }) => res.text('hello')"
PYTHON_HELLO = "def main(context):\n    return context.res.text('hello')\n"

PHP_HELLO = "<?php return fn ($c) => $c->res->text('hello');"
RUBY_HELLO = "def main(context)\n  context.res.text('hello')\nend\n"
TS_HELLO = "export default ({ res }: { res: any }): unknown => res.text('hello');"

JAVA_HELLO = (
    "package io.openruntimes.java;\npublic class Index {\n"
    '  public RuntimeOutput main(RuntimeContext context) { return context.getRes().text("hello"); }\n}\n'
)

CPP_HELLO = (
    '#include "RuntimeContext.h"\nnamespace runtime {\nstruct Handler {\n'
    '  static RuntimeOutput main(RuntimeContext &context) { return context.res.text("hello"); }\n};\n}\n'
)
KOTLIN_HELLO = (
    "package io.openruntimes.kotlin\n\nclass Index {\n"
    '  fun main(context: RuntimeContext): RuntimeOutput = context.res.text("hello")\n}\n'
)
DART_HELLO = "Future<dynamic> main(final context) async => context.res.text('hello');\n"

#: What it shows: runtime (or a family whose first pack is taken), entrypoint, files.
LOADABLE = {
    "bun-typescript": (
        "bun",
        "src/main.ts",
        {
            "src/main.ts": "import { hello } from '@/words';\n" + TS_HELLO.replace("'hello'", "hello"),
            "src/words.ts": "export const hello: string = 'hello';",
            "tsconfig.json": '{"compilerOptions": {"paths": {"@/*": ["./src/*"]}}}',
        },
    ),
    "bun-commonjs": ("bun", "main.cjs", {"main.cjs": f"module.exports = {HELLO};"}),
    "bun-node_modules": (
        "bun",
        "main.js",
        {
            "main.js": "import hello from 'hello';\nexport default ({ res }) => res.text(hello);",
            "node_modules/hello/index.js": "module.exports = 'hello';",
        },
    ),
    "deno-typescript": (
        "deno",
        "src/mod.ts",
        {
            "src/mod.ts": "import { hello } from './words.ts';\n" + TS_HELLO.replace("'hello'", "hello"),
            "src/words.ts": "export const hello: string = 'hello';",
        },
    ),
    "deno-import-map": (
        "deno",
        "src/mod.ts",
        {
            "deno.json": '{"imports": {"words": "./lib/words.ts"}}',
            "src/mod.ts": "import { hello } from 'words';\n" + TS_HELLO.replace("'hello'", "hello"),
            "lib/words.ts": "export const hello: string = 'hello';",
        },
    ),
    "php": ("php", "index.php", {"index.php": PHP_HELLO}),
    "php-include": (
        "php",
        "src/index.php",
        {
            "src/index.php": "<?php require 'words.php'; return fn ($c) => $c->res->text(HE . LLO);",
            "src/words.php": "<?php require __DIR__ . '/../more.php'; const HE = 'he';",
            "more.php": "<?php const LLO = 'llo';",
        },
    ),
    "php-function-name": (
        "php",
        "a.php",
        {"a.php": "<?php function hi($c) { return $c->res->text('hello'); } return 'hi';"},
    ),
    "ruby": ("ruby", "index.rb", {"index.rb": RUBY_HELLO}),
    "ruby-require": (
        "ruby",
        "src/main.rb",
        {
            "src/main.rb": "require_relative 'words'\nrequire 'more'\n" + RUBY_HELLO.replace("'hello'", "HE + LLO"),
            "src/words.rb": "HE = 'he'\n",
            "more.rb": "LLO = 'llo'\n",
        },
    ),
    "java": ("java", "Index.java", {"Index.java": JAVA_HELLO}),
    "java-packages": (
        "java",
        "src/Main.java",
        {
            "src/Main.java": "package shop;\nimport io.openruntimes.java.*;\nimport shop.words.*;\nclass Main {\n"
            "  private static RuntimeOutput main(RuntimeContext c) {\n"
            "    return c.getRes().text(new Words().both());\n  }\n}\n",
            "src/words/Words.java": "// package no.words;\npackage shop.words;\n"
            'public class Words { public String both() { return "hel" + "lo"; } }\n',
        },
    ),
    "kotlin": ("kotlin", "Index.kt", {"Index.kt": KOTLIN_HELLO}),
    "kotlin-suspended": (
        "kotlin",
        "src/Main.kt",
        {
            "src/Main.kt": "package shop\nimport io.openruntimes.kotlin.*\nimport kotlin.concurrent.thread\n"
            "import kotlin.coroutines.resume\nimport kotlin.coroutines.suspendCoroutine\n\n"
            "class Main {\n  suspend fun main(c: RuntimeContext) = c.res.text(later(), headers = mapOf())\n"
            '  private suspend fun later(): String = suspendCoroutine { thread { it.resume("hello") } }\n}\n',
        },
    ),
    "dart": ("dart", "lib/main.dart", {"lib/main.dart": DART_HELLO}),
    "dart-plain": ("dart", "main.dart", {"main.dart": "main(c) => {'body': 'hello'};\n"}),
    "commonjs": ("node-20", "main.js", {"main.js": f"module.exports = {HELLO};"}),
    "commonjs-default": ("node-20", "src/main.cjs", {"src/main.cjs": f"exports.default = {HELLO}; exports.x = 1;"}),
    "esm": ("node-20", "src/main.mjs", {"src/main.mjs": f"export default {HELLO};"}),
    "esm-by-package": (
        "node-20",
        "src/main.js",
        {
            "package.json": '{"type": "module"}',
            "src/main.js": "import { text } from './text.js';\nexport default async (c) => c.res.text(await text());",
            "src/text.js": "export const text = async () => 'hello';",
        },
    ),
    "node_modules": (
        "node-20",
        "src/main.js",
        {
            "src/main.js": "const hello = require('hello');\nmodule.exports = ({ res }) => res.text(hello);",
            "node_modules/hello/index.js": "module.exports = 'hello';",
        },
    ),
    "python": ("python-3.11", "main.py", {"main.py": PYTHON_HELLO}),
    "python-relative": (
        "python-3.11",
        "src/main.py",
        {
            "src/main.py": "from .words import hello\ndef main(context):\n    return context.res.text(hello)\n",
            "src/words.py": "hello = 'hello'\n",
        },
    ),
    "python-absolute": (
        "python-3.11",
        "src/main.py",
        {
            "src/main.py": "import words\nimport beside\ndef main(c):\n    return c.res.text(words.he + beside.llo)\n",
            "src/beside.py": "llo = 'llo'\n",
            "words.py": "he = 'he'\n",
        },
    ),
    "python-virtual-environment": (
        "python-3.11",
        "main.py",
        {
            "main.py": "import hello\ndef main(context):\n    return context.res.text(hello.hello)\n",
            "runtime-env/lib/python3.11/site-packages/hello/__init__.py": "hello = 'hello'\n",
        },
    ),
    "python-odd-name": ("python-3.11", "my.main-file.py", {"my.main-file.py": PYTHON_HELLO}),
    "python-user-module-names": (
        "python-3.11",
        "main.py",
        {
            "main.py": "import shim, channel, output\n" + PYTHON_HELLO,
            "shim.py": "",
            "channel.py": "",
            "output.py": "",
        },
    ),
    "python-returns-awaitable": (
        "python-3.11",
        "main.py",
        {
            "main.py": "async def later(context):\n    return context.res.text('hello')\n"
            "def main(context):\n    return later(context)\n"
        },
    ),
    "python-callable-object": (
        "python-3.11",
        "main.py",
        {
            "main.py": "class Main:\n    async def __call__(self, context):\n"
            "        return context.res.text('hello')\nmain = Main()\n"
        },
    ),
}


def deploy(bench: Bench, runtime: str, entrypoint: str, files: dict[str, str]) -> InstanceTemplate:
    """The code of a function ready to run: compiled, where its language is. `runtime` may be a family: its first pack.

    Skips the test that asks if there is none.
    """
    if "-" in runtime:
        return bench.deploy(runtime, entrypoint, files)
    pack = any_pack_of(runtime)
    if pack.root and isinstance(bench.driver, ProcessDriver):
        pytest.skip("facility: a pack with a system of its own needs a sandbox")
    if family_of(runtime).is_compiled:
        return bench.deploy(pack.id, entrypoint, built(runtime, files, entrypoint, pack))
    return bench.deploy(pack.id, entrypoint, files)


@pytest.mark.parametrize("name", list(LOADABLE))
async def test_a_handler_is_found(bench: Bench, name: str) -> None:
    result = await bench.run(deploy(bench, *LOADABLE[name]))
    assert (result.outcome, result.status_code, result.body, result.errors) == (Outcome.COMPLETED, 200, b"hello", "")


@pytest.mark.slow
@pytest.mark.parametrize("template", [name for name in STARTERS if family_of(name).is_compiled])
async def test_the_starter_of_a_compiled_language_runs(bench: Bench, template: str) -> None:
    """Those of the others are run by `hearth dev` (tests/e2e/test_dev.py)."""
    files = folder_files(Path(hearth.data.__file__).parent / "starters" / template)
    made = deploy(bench, template, STARTERS[template].entrypoint, files)
    greeting = await bench.run(made, method="GET")
    assert greeting.body.startswith(b"Hello from your function.")
    seen = await bench.run(made, body=b"body", path="/a/b?c=d")
    assert json.loads(seen.body) == {"method": "POST", "path": "/a/b", "query": {"c": "d"}, "body": "body"}
    assert (seen.logs, seen.errors) == ("POST /a/b\n", "")


SIGNATURE = "Function signature invalid. Did you forget to export a 'main' function?\n"
UNLOADABLE = {
    "bun-missing": ("bun", "no.ts", {"a.ts": ""}, "Failed to load entrypoint, file no.ts does not exist.\n"),
    "bun-no-handler": ("bun", "a.ts", {"a.ts": "export const x = 1;"}, SIGNATURE),
    "deno-missing": ("deno", "no.ts", {"a.ts": ""}, "Failed to load entrypoint, file no.ts does not exist.\n"),
    "deno-no-handler": ("deno", "a.ts", {"a.ts": "export const x = 1;"}, SIGNATURE),
    "php-missing": ("php", "no.php", {"a.php": ""}, "Failed to load entrypoint, file no.php does not exist.\n"),
    "php-no-handler": ("php", "a.php", {"a.php": "<?php function main($c) {}"}, SIGNATURE),
    "ruby-missing": ("ruby", "no.rb", {"a.rb": ""}, "Failed to load entrypoint, file no.rb does not exist.\n"),
    "ruby-no-handler": ("ruby", "a.rb", {"a.rb": "x = 1"}, SIGNATURE),
    "kotlin-no-handler": ("kotlin", "A.kt", {"A.kt": "class A { fun main(words: String) = words }"}, SIGNATURE),
    "dart-no-handler": ("dart", "a.dart", {"a.dart": "main() => 5;"}, SIGNATURE),
    "java-no-handler": ("java", "A.java", {"A.java": "public class A { void main(String words) {} }"}, SIGNATURE),
    "node-missing": (
        "node-20",
        "src/no.js",
        {"a.js": ""},
        "Failed to load entrypoint, file src/no.js does not exist.\n",
    ),
    "python-missing": ("python-3.11", "no.py", {"a.py": ""}, "Failed to load entrypoint, file no.py does not exist.\n"),
    "node-no-handler": ("node-20", "a.js", {"a.js": "module.exports = {};"}, SIGNATURE),
    "esm-no-handler": ("node-20", "a.mjs", {"a.mjs": "export const x = 1;"}, SIGNATURE),
    "python-no-handler": ("python-3.11", "a.py", {"a.py": "x = 1"}, SIGNATURE),
}


@pytest.mark.parametrize("name", list(UNLOADABLE))
async def test_no_handler_is_said_word_for_word(bench: Bench, name: str) -> None:
    """57"""
    runtime, entrypoint, files, expected = UNLOADABLE[name]
    result = await bench.run(deploy(bench, runtime, entrypoint, files))
    assert (result.outcome, result.status_code, result.body) == (Outcome.LOAD_FAILED, 503, b"")
    assert result.errors == expected


BROKEN = {
    "bun-syntax": ("bun", "a.ts", {"a.ts": "export default ("}, "Unexpected end of file"),
    "bun-throws": ("bun", "a.ts", {"a.ts": "throw new Error('at the top')"}, "at the top"),
    "bun-missing-module": ("bun", "a.ts", {"a.ts": "import x from 'left-pad'; x();"}, "left-pad"),
    "bun-exits": ("bun", "a.ts", {"a.ts": "console.log('words'); process.exit(4)"}, "exited with code 4"),
    "deno-syntax": ("deno", "a.ts", {"a.ts": "export default ("}, "rror"),
    "deno-throws": ("deno", "a.ts", {"a.ts": "throw new Error('at the top')"}, "at the top"),
    "deno-missing-module": ("deno", "a.ts", {"a.ts": "import x from 'left-pad'; x();"}, "left-pad"),
    "php-syntax": ("php", "a.php", {"a.php": "<?php return ("}, "ParseError"),
    "php-throws": ("php", "a.php", {"a.php": "<?php throw new Exception('at the top');"}, "at the top"),
    "php-missing-module": ("php", "a.php", {"a.php": "<?php require 'left-pad.php';"}, "left-pad"),
    "ruby-syntax": ("ruby", "a.rb", {"a.rb": "def main("}, "SyntaxError"),
    "ruby-throws": ("ruby", "a.rb", {"a.rb": "raise 'at the top'"}, "at the top"),
    "ruby-missing-module": ("ruby", "a.rb", {"a.rb": "require 'left_pad'"}, "left_pad"),
    "ruby-exits": ("ruby", "a.rb", {"a.rb": "puts 'words'\nexit 4"}, "exited with code 4"),
    "java-throws": (
        "java",
        "A.java",
        {"A.java": 'class A { static { if (true) throw new Error("at the top"); } }'},
        "at the top",
    ),
    "java-missing-class": ("java", "A.java", {"A.java": "class B { }"}, "ClassNotFoundException: A"),
    "java-exits": (
        "java",
        "A.java",
        {"A.java": 'class A { static { System.out.println("words"); System.exit(4); } }'},
        "exited with code 4",
    ),
    "cpp-throws": ("cpp", "a.cc", {"a.cc": CPP_HELLO + 'static const int at = std::stoi("at the top");'}, "a.cc:7"),
    "kotlin-throws": (
        "kotlin",
        "A.kt",
        {"A.kt": 'class A { companion object { init { error("at the top") } } }'},
        "at the top",
    ),
    "kotlin-missing-class": ("kotlin", "A.kt", {"A.kt": "class B"}, "ClassNotFoundException: A"),
    "node-syntax": ("node-20", "a.js", {"a.js": "module.exports = ("}, "SyntaxError"),
    "node-throws": ("node-20", "a.js", {"a.js": "throw new Error('at the top')"}, "at the top"),
    "node-missing-module": ("node-20", "a.js", {"a.js": "require('left-pad')"}, "left-pad"),
    "esm-missing-module": ("node-20", "a.mjs", {"a.mjs": "import x from 'left-pad'"}, "left-pad"),
    "node-exits": ("node-20", "a.js", {"a.js": "console.log('words'); process.exit(4)"}, "exited with code 4"),
    "python-syntax": ("python-3.11", "a.py", {"a.py": "def main(:"}, "SyntaxError"),
    "python-throws": ("python-3.11", "a.py", {"a.py": "raise Exception('at the top')"}, "at the top"),
    "python-missing-module": ("python-3.11", "a.py", {"a.py": "import left_pad"}, "left_pad"),
    "python-exits": ("python-3.11", "a.py", {"a.py": "import sys\nprint('words')\nsys.exit(4)"}, "exited with code 4"),
}


@pytest.mark.parametrize("name", list(BROKEN))
async def test_broken_code_is_named(bench: Bench, name: str) -> None:
    runtime, entrypoint, files, expected = BROKEN[name]
    result = await bench.run(deploy(bench, runtime, entrypoint, files))
    assert (result.outcome, result.status_code, result.body) == (Outcome.LOAD_FAILED, 503, b"")
    assert expected in result.errors
    assert entrypoint in result.errors
    assert "/shims/" not in result.errors
    if "words" in next(iter(files.values())):
        assert "words" in result.errors


@pytest.mark.parametrize(
    ("runtime", "entrypoint", "code"),
    [
        ("node-20", "a.js", f"console.log('loading'); module.exports = {HELLO};"),
        ("python-3.11", "a.py", "print('loading')\n" + PYTHON_HELLO),
        ("bun", "a.ts", "console.log('loading');\n" + TS_HELLO),
        ("deno", "a.ts", "console.log('loading');\n" + TS_HELLO),
        ("php", "a.php", PHP_HELLO.replace("<?php", '<?php echo "loading\\n";')),
        ("ruby", "a.rb", "puts 'loading'\n" + RUBY_HELLO),
        ("cpp", "index.cc", "#include <iostream>\n" + CPP_HELLO + 'static auto &said = std::cout << "loading\\n";'),
        ("kotlin", "Index.kt", KOTLIN_HELLO.replace("{\n", '{\n  init { println("loading") }\n', 1)),
        ("java", "Index.java", JAVA_HELLO.replace("{\n", '{\n  static { System.out.println("loading"); }\n', 1)),
    ],
)
async def test_output_while_loading_belongs_to_the_first_execution(
    bench: Bench, runtime: str, entrypoint: str, code: str
) -> None:
    template = deploy(bench, runtime, entrypoint, {entrypoint: code})
    first, second = await bench.run(template), await bench.run(template)
    assert first.logs.splitlines()[1:] == ["loading"]
    assert (first.cold, second.cold, second.logs) == (True, False, "")


NODE_ENDS = {
    "uncaught": "module.exports = ({ res }) => new Promise(() => setTimeout(() => { throw new Error('late'); }, 1));",
    "unhandled": "module.exports = ({ res }) => new Promise(() => { Promise.reject(new Error('late')); });",
}


@pytest.mark.parametrize("name", list(NODE_ENDS))
async def test_an_error_outside_of_the_handler_reaches_its_execution(bench: Bench, name: str) -> None:
    """Uncaught exceptions and unhandled rejections: the user's stack is in the errors, then the instance ends."""
    result = await bench.run(bench.deploy("node-20", "a.js", {"a.js": NODE_ENDS[name]}))
    assert (result.outcome, result.status_code) == (Outcome.CRASHED, 500)
    assert "Error: late" in result.errors
    assert "a.js" in result.errors
    assert "exited with code 1" in result.errors
    assert "/shims/" not in result.errors


async def test_values_in_node_logs(bench: Bench) -> None:
    """36 for Node: BigInt, Set, Date, URL, typed arrays, errors, circles."""
    code = """
    const circle = { name: 'circle' };
    circle.self = circle;
    module.exports = ({ log, res }) => {
      log(9007199254740993n, new Set([1, 2]), new Map([['k', 'v']]), new URL('https://example.com/a'));
      log(new Date(0), Uint8Array.from([1, 2]), undefined, null, circle, { big: 1n, when: new Date(0) });
      log(new Error('shown'));
      console.log('%s has %d', 'native', 2);
      console.warn({ a: 1 });
      return res.empty();
    };
    """
    result = await bench.run(bench.deploy("node-20", "a.js", {"a.js": code}))
    lines = result.logs.splitlines()
    assert lines[0] == '9007199254740993 [1,2] {"k":"v"} https://example.com/a'
    assert lines[1] == (
        '1970-01-01T00:00:00.000Z [1,2] undefined null {"name":"circle","self":"[Circular]"} '
        '{"big":"1","when":"1970-01-01T00:00:00.000Z"}'
    )
    assert lines[2] == "Error: shown"
    assert "native has 2" in lines
    assert '{"a":1}' in lines


async def test_values_in_python_logs(bench: Bench) -> None:
    code = """
def main(context):
    context.log({"a": [1, "ä"]}, (1, 2), None, 1.5)
    try:
        1 / 0
    except ZeroDivisionError as problem:
        context.error("caught:", problem)
    return context.res.empty()
"""
    result = await bench.run(bench.deploy("python-3.11", "a.py", {"a.py": code}))
    assert result.logs == '{"a":[1,"ä"]} [1,2] None 1.5\n'
    assert result.errors.startswith("caught: Traceback")
    assert result.errors.endswith("ZeroDivisionError: division by zero\n")


async def test_threads_may_log_while_the_answer_is_written(bench: Bench) -> None:
    """Frames of other threads never get into the middle of a long response, nor after it."""
    code = """
import threading
stop = threading.Event()

def chatter(context):
    while not stop.is_set():
        context.log("from a thread")
        print("native from a thread")

def main(context):
    for _ in range(4):
        threading.Thread(target=chatter, args=(context,), daemon=True).start()
    return context.res.binary(bytes(3 * 1024 * 1024))
"""
    result = await bench.run(bench.deploy("python-3.11", "a.py", {"a.py": code}))
    assert (result.outcome, len(result.body), result.errors) == (Outcome.COMPLETED, 3 * 1024 * 1024, "")
    assert "from a thread" in result.logs


async def test_a_forked_child_cannot_answer_for_its_parent(bench: Bench) -> None:
    """Its prints are output of the instance; the channel is the parent's alone."""
    code = """
import os

def main(context):
    child = os.fork()
    if child == 0:
        print("from the child")
        os._exit(0 if not os.path.exists("/proc/self/fd/3") else 1)
    status = os.waitpid(child, 0)[1]
    return context.res.text(str(status))
"""
    result = await bench.run(bench.deploy("python-3.11", "a.py", {"a.py": code}))
    assert (result.outcome, result.body) == (Outcome.COMPLETED, b"0")
    assert result.logs.splitlines()[1:] == ["from the child"]
