"""Static files: what is served, how, and what never is."""

import hashlib

import pytest

from hearth.model.running import InstanceTemplate, Outcome, Result
from tests.support.executors import Bench
from tests.support.interpreters import pack_of

pytestmark = pytest.mark.anyio

MOVIE = bytes(range(256)) * 4096  # 1 MiB: streamed
FILES: dict[str, str | bytes] = {
    "index.html": "<h1>home</h1>",
    "contact.html": "<h1>contact</h1>",
    "about-us/index.html": "<h1>about</h1>",
    "assets/logo.PNG": bytes(range(100)),
    "assets/app.js": "console.log('hi')",
    "assets/noindex/a b%.txt": "odd",
    "movie.mp4": MOVIE,
    "data": b"\0",
    ".env": "SECRET=1",
    ".git/config": "secret",
    ".well-known/security.txt": "contact",
    ".open-runtimes": "secret",
}


@pytest.fixture(scope="module")
def site(bench: Bench) -> InstanceTemplate:
    return bench.deploy(pack_of("static").id, "index.html", FILES)


async def get(bench: Bench, site: InstanceTemplate, path: str, method: str = "GET", **headers: str) -> Result:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    result = await bench.run(site, path=path, method=method, headers=given)
    assert (result.outcome, result.logs, result.errors) == (Outcome.COMPLETED, "", "")
    assert dict(result.headers)["cache-control"] == "no-cache"
    return result


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/", "text/html; charset=utf-8", "index.html"),
        ("", "text/html; charset=utf-8", "index.html"),
        ("/index.html?a=b", "text/html; charset=utf-8", "index.html"),
        ("/contact", "text/html; charset=utf-8", "contact.html"),
        ("/contact/", "text/html; charset=utf-8", "contact.html"),
        ("/about-us/", "text/html; charset=utf-8", "about-us/index.html"),
        ("/about-us//index.html", "text/html; charset=utf-8", "about-us/index.html"),
        ("/assets/logo.PNG", "image/png", "assets/logo.PNG"),
        ("/assets/app.js", "text/javascript; charset=utf-8", "assets/app.js"),
        ("/assets/noindex/a%20b%25.txt", "text/plain; charset=utf-8", "assets/noindex/a b%.txt"),
        ("/movie.mp4", "video/mp4", "movie.mp4"),
        ("/data", "application/octet-stream", "data"),
        ("/.well-known/security.txt", "text/plain; charset=utf-8", ".well-known/security.txt"),
    ],
)
async def test_a_file_is_found_by_its_path(
    bench: Bench, site: InstanceTemplate, path: str, kind: str, name: str
) -> None:
    result = await get(bench, site, path)
    content = FILES[name]
    assert (result.status_code, result.body) == (200, content.encode() if isinstance(content, str) else content)
    assert dict(result.headers)["content-type"] == kind


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/nothing",
            "/assets/noindex/",
            "/assets/",
            "/index.html/x",
            "/contact.html/",
            "/data/",
            "/%ff",
            "/%zz",
            "/%",
        ),
        *("/.env", "/%2eenv", "/.git/config", "/assets/../.env", "/.open-runtimes", "/.well-known/../.env"),
        *("/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/assets/.", "/a%00b"),
        *("/" + "x" * 300, "//etc/passwd", "/\\..\\..\\etc\\passwd", "/mnt/code/index.html/../../.."),
    ],
)
async def test_what_is_hidden_outside_or_not_there_is_not_found(
    bench: Bench, site: InstanceTemplate, path: str
) -> None:
    result = await get(bench, site, path)
    assert result.status_code == 404
    assert b"<h1>404</h1>" in result.body
    assert dict(result.headers)["content-type"] == "text/html; charset=utf-8"


async def test_a_folder_has_a_slash_at_its_end(bench: Bench, site: InstanceTemplate) -> None:
    for path, target in (("/about-us", "/about-us/"), ("//about-us?a=b", "/about-us/?a=b")):
        result = await get(bench, site, path)
        assert (result.status_code, dict(result.headers)["location"]) == (308, target)


async def test_other_methods_are_refused_and_head_has_no_body(bench: Bench, site: InstanceTemplate) -> None:
    result = await get(bench, site, "/", "POST")
    assert (result.status_code, result.body, dict(result.headers)["allow"]) == (405, b"", "GET, HEAD")
    whole, head = await get(bench, site, "/"), await get(bench, site, "/", "HEAD")
    assert (head.status_code, head.body, head.headers) == (200, b"", whole.headers)


async def test_what_a_client_has_is_not_sent_again(bench: Bench, site: InstanceTemplate) -> None:
    tag = dict((await get(bench, site, "/")).headers)["etag"]
    assert tag == f'"{hashlib.blake2b(b"<h1>home</h1>", digest_size=16).hexdigest()}"'
    for given in (tag, f'"other", W/{tag}', "*"):
        result = await get(bench, site, "/", if_none_match=given)
        assert (result.status_code, result.body, dict(result.headers)["etag"]) == (304, b"", tag)
    assert (await get(bench, site, "/", if_none_match='"other"')).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [("bytes=0-99", 0, 100), ("bytes=1000000-", 1000000, None), ("bytes=-5", -5, None), ("bytes=9-99999999", 9, None)],
)
async def test_a_part_of_a_file(bench: Bench, site: InstanceTemplate, wanted: str, begin: int, end: int | None) -> None:
    result = await get(bench, site, "/movie.mp4", range=wanted)
    assert (result.status_code, result.body) == (206, MOVIE[begin:end])
    first = begin % len(MOVIE)
    expected = f"bytes {first}-{first + len(result.body) - 1}/{len(MOVIE)}"
    assert dict(result.headers)["content-range"] == expected


@pytest.mark.parametrize("wanted", ["bytes=9-5", "bytes=0-1,5-6", "lines=1-2", "bytes=a-", "bytes=-", ""])
async def test_what_is_no_single_range_gets_the_whole_file(bench: Bench, site: InstanceTemplate, wanted: str) -> None:
    assert (await get(bench, site, "/contact", range=wanted)).status_code == 200


async def test_a_range_that_is_not_there_and_one_of_another_version(bench: Bench, site: InstanceTemplate) -> None:
    for wanted in ("bytes=100-", "bytes=-0"):
        result = await get(bench, site, "/assets/logo.PNG", range=wanted)
        assert (result.status_code, dict(result.headers)["content-range"]) == (416, "bytes */100")
    assert (await get(bench, site, "/contact", range="bytes=0-1", if_range='"other"')).status_code == 200


async def test_pages_of_the_site_for_what_is_not_there(bench: Bench) -> None:
    """A 404.html is one with that status; a fallback is an ordinary page, as single-page applications need it."""
    runtime = pack_of("static").id
    own = bench.deploy(runtime, "x", {"index.html": "home", "404.html": "ours"})
    missing = await get(bench, own, "/missing")
    assert (missing.status_code, missing.body) == (404, b"ours")
    fallback = {"OPEN_RUNTIMES_STATIC_FALLBACK": "/app/index.html"}
    single = bench.deploy(runtime, "x", {"app/index.html": "app", "404.html": "ours"}, fallback)
    found, hidden = await get(bench, single, "/users/5"), await get(bench, single, "/.env")
    assert ((found.status_code, found.body), hidden.status_code) == ((200, b"app"), 404)
