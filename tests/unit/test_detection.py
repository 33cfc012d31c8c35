"""Which runtime a folder of code is for."""

import pytest

from hearth.model.detection import Detected, detect


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"package.json", "src/main.js"}, Detected("node", "src/main.js", "npm install")),
        ({"package.json", "package-lock.json", "index.js"}, Detected("node", "index.js", "npm ci")),
        ({"package.json", "bun.lockb", "index.ts"}, Detected("bun", "index.ts", "bun install")),
        ({"package.json", "deno.json", "main.ts"}, Detected("deno", "main.ts", "")),
        ({"requirements.txt", "main.py"}, Detected("python", "main.py", "pip install -r requirements.txt")),
        ({"pyproject.toml", "lib/x.py"}, Detected("python", "lib/x.py", "pip install .")),
        ({"composer.json", "src/index.php"}, Detected("php", "src/index.php", "composer install")),
        ({"Gemfile", "lib/main.rb"}, Detected("ruby", "lib/main.rb", "bundle install")),
        ({"go.mod", "main.go"}, Detected("go", "main.go", "")),
        ({"Cargo.toml", "main.rs"}, Detected("rust", "main.rs", "")),
        ({"index.cc", "words.h"}, Detected("cpp", "index.cc", "")),
        ({"handler.py", "README.md"}, Detected("python", "handler.py", "")),
        ({"README.md", "LICENSE"}, None),
        (set(), None),
    ],
)
def test_marks_come_first_then_languages(files: set[str], expected: Detected | None) -> None:
    assert detect(files) == expected
