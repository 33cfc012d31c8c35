"""The handler of static functions: answers with the files of the build's output, as the reference's file server does.

What it does beside that is a fallback page (`OPEN_RUNTIMES_STATIC_FALLBACK`). Nothing of the code is run, and no path
leads out of its folder. Standard library only, Python >= 3.9.
"""

from __future__ import annotations

import hashlib
import os

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from typing import Any, BinaryIO

    Output = dict[str, Any]

FALLBACK_VARIABLE = "OPEN_RUNTIMES_STATIC_FALLBACK"
INDEX, NOT_FOUND = "index.html", "404.html"
#: The one hidden folder that clients ask for (RFC 8615).
WELL_KNOWN = ".well-known"
#: Larger files are streamed in pieces of this size.
PIECE_BYTES = 64 * 1024
WHOLE_MAX_BYTES = 512 * 1024
_TAG_BYTES = 16
_NAME_MAX_BYTES = 255  # a longer one is no file's

#: By the ending of a name, without its dot. Text has its encoding with it.
TYPES = {
    "html": "text/html; charset=utf-8",
    "htm": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "xml": "application/xml; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "webmanifest": "application/manifest+json",
    "wasm": "application/wasm",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "gz": "application/gzip",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "ico": "image/x-icon",
    "bmp": "image/bmp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
    "otf": "font/otf",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "wav": "audio/wav",
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "webm": "video/webm",
}
OTHER_TYPE = "application/octet-stream"

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Not found</title></head>
<body><h1>404</h1><p>There is no page at this address.</p></body>
</html>
"""


def load(code: str, entrypoint: str) -> Callable[[Any], Awaitable[Output]]:
    """The handler of a folder of files; the entrypoint of a static function means nothing."""
    site = Site(os.path.realpath(code), os.environ.get(FALLBACK_VARIABLE, ""))

    async def main(context: Any) -> Output:
        request = context.req
        return site.answer(request.method, request.path, request.query_string, request.headers)

    return main


def completed(given: Mapping[str, str] | None) -> Mapping[str, str]:
    """The headers of a response as they leave. Unlike a handler's, a picture gets no `charset`."""
    return given if given is not None else {"content-type": TYPES["txt"]}


class Site:
    """The files of one deployment, below `root`; `fallback` is what stands in for pages that are not there."""

    def __init__(self, root: str, fallback: str) -> None:
        self._root = root
        self._fallback = fallback.strip("/")
        self._tags: dict[str, str] = {}

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> Output:
        """Answer one request."""
        if method not in ("GET", "HEAD"):
            return _output(405, {"allow": "GET, HEAD", "content-type": TYPES["txt"]})
        names = _names(path)
        if names is None:
            return self._missing()
        if not path.endswith("/") and names and self._is_folder(names):
            # One slash, however many there were: "//" would lead to another host.
            target = "/" + path.strip("/") + "/" + (f"?{query}" if query else "")
            return _output(308, {"location": target, "content-type": TYPES["txt"]})
        file = self._file_of(names, path.endswith("/"))
        if file is None and self._fallback:
            file = self._existing(_names(self._fallback))
        return self._missing() if file is None else self._file(file, method, headers)

    def _file_of(self, names: list[str], is_folder: bool) -> str | None:
        """The file that a path means: itself, with `.html`, or the index of a folder."""
        candidates = [[*names, INDEX]]
        if names and not is_folder:
            candidates = [names, [*names[:-1], f"{names[-1]}.html"], *candidates]
        elif names:
            candidates.append([*names[:-1], f"{names[-1]}.html"])
        return next((file for file in map(self._existing, candidates) if file is not None), None)

    def _existing(self, names: list[str] | None) -> str | None:
        """The path of a file that is there, and inside."""
        if not names:
            return None
        path = os.path.realpath(os.path.join(self._root, *names))
        return path if path.startswith(self._root + "/") and os.path.isfile(path) else None

    def _is_folder(self, names: list[str]) -> bool:
        path = os.path.realpath(os.path.join(self._root, *names))
        return path.startswith(self._root + "/") and os.path.isdir(path)

    def _missing(self) -> Output:
        file = self._existing([NOT_FOUND])
        headers = {"content-type": TYPES["html"]}
        if file is None:
            return _output(404, headers, PAGE.encode())
        return self._body(404, headers, file, 0, os.path.getsize(file))

    def _file(self, file: str, method: str, headers: Mapping[str, str]) -> Output:
        size = os.path.getsize(file)
        tag = self._tag(file)
        kind = TYPES.get(file.rpartition("/")[2].rpartition(".")[2].lower(), OTHER_TYPE)
        given = {"content-type": kind, "etag": tag, "accept-ranges": "bytes"}
        if _matches(headers.get("if-none-match", ""), tag):
            return _output(304, given)
        if method == "GET" and headers.get("if-range", tag) == tag:
            wanted = _range(headers.get("range", ""), size)
            if wanted is not None and wanted[0] >= wanted[1]:
                return _output(416, {**given, "content-range": f"bytes */{size}"})
            if wanted is not None:
                begin, end = wanted
                given["content-range"] = f"bytes {begin}-{end - 1}/{size}"
                return self._body(206, given, file, begin, end)
        if method == "HEAD":
            return _output(200, given)
        return self._body(200, given, file, 0, size)

    def _body(self, status: int, headers: Mapping[str, str], file: str, begin: int, end: int) -> Output:
        if end - begin <= WHOLE_MAX_BYTES:
            with _opened(file, begin) as source:
                return _output(status, headers, source.read(end - begin))
        return {**_output(status, headers), "stream": _pieces(file, begin, end)}

    def _tag(self, file: str) -> str:
        """What stands for a file's content, which never changes while this instance lives."""
        found = self._tags.get(file)
        if found is None:
            digest = hashlib.blake2b(digest_size=_TAG_BYTES)
            with open(file, "rb") as source:
                while piece := source.read(PIECE_BYTES):
                    digest.update(piece)
            found = self._tags[file] = f'"{digest.hexdigest()}"'
        return found


def _output(status: int, headers: Mapping[str, str], body: bytes = b"") -> Output:
    return {"body": body, "statusCode": status, "headers": {**headers, "cache-control": "no-cache"}}


def _opened(file: str, begin: int) -> BinaryIO:
    source = open(file, "rb")  # noqa: SIM115 - whoever asks closes it
    source.seek(begin)
    return source


async def _pieces(file: str, begin: int, end: int) -> AsyncIterator[bytes]:
    with _opened(file, begin) as source:
        while begin < end:
            piece = source.read(min(PIECE_BYTES, end - begin))
            if not piece:
                raise OSError(f"{file} has become shorter")
            begin += len(piece)
            yield piece


def _names(path: str) -> list[str] | None:
    """The names of a path, decoded; None if it leads anywhere hidden or outside, or is none."""
    try:
        decoded = _decoded(path)
    except (ValueError, UnicodeDecodeError):
        return None
    names = [name for name in decoded.split("/") if name]
    for at, name in enumerate(names):
        if "\0" in name or len(name.encode()) > _NAME_MAX_BYTES:
            return None
        if name.startswith(".") and (at > 0 or name != WELL_KNOWN):
            return None
    return names


def _decoded(path: str) -> str:
    """A path without its percent signs. Raises ValueError, UnicodeDecodeError."""
    first, *rest = path.encode().split(b"%")
    parts = [first]
    for part in rest:
        parts += [bytes([int(part[:2].decode("ascii"), 16)]) if len(part) >= 2 else b"\xff", part[2:]]
    return b"".join(parts).decode()


def _matches(given: str, tag: str) -> bool:
    """Whether `If-None-Match` names a tag (RFC 9110, 13.1.2)."""
    return given.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in given.split(",")]


def _range(given: str, size: int) -> tuple[int, int] | None:
    """The part of a file that `Range` asks for: begin and end, begin >= end if there is none such; None = all of it.

    More than one part, and what is none, counts as no range (RFC 9110, 14.2).
    """
    unit, _, part = given.replace(" ", "").partition("=")
    first, dash, last = part.partition("-")
    if unit.lower() != "bytes" or not dash or not (first or last):
        return None
    if not all(text.isascii() and text.isdigit() for text in (first, last) if text):
        return None
    if not first:
        return max(0, size - int(last)), size if int(last) else 0
    end = min(size, int(last) + 1) if last else size
    if last and int(last) < int(first):
        return None
    return int(first), end
