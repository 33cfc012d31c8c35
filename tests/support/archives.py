"""Source archives for tests, as a user would upload them."""

import gzip
import io
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path

ENTRYPOINTS = {"node": "main.js", "python": "main.py"}

# Answers with what the caller can check: the request and the variables. Small enough for a 300-byte archive.
ECHOES = {
    "node": """
module.exports = async ({ req, res, log, error }) => {
  log('said', req.method, req.path);
  error('complained');
  return res.json({ greeting: process.env.GREETING, token: process.env.TOKEN, body: req.bodyText, query: req.query,
    extra: req.headers['x-extra'] });
};
""",
    "python": """
import os
def main(context):
    req = context.req
    context.log('said', req.method, req.path)
    context.error('complained')
    return context.res.json({'greeting': os.environ['GREETING'], 'token': os.environ['TOKEN'], 'body': req.body_text,
        'query': req.query, 'extra': req.headers.get('x-extra')})
""",
}

# Answers with the digest of the file `payload.bin` beside it: shows that an upload arrived whole.
DIGESTS = {
    "node": """
const fs = require('fs'), crypto = require('crypto'), path = require('path');
module.exports = async ({ res, log }) => {
  const payload = fs.readFileSync(path.join(__dirname, 'payload.bin'));
  log('read', payload.length);
  return res.text(crypto.createHash('sha256').update(payload).digest('hex'));
};
""",
    "python": """
import hashlib, os
def main(context):
    with open(os.path.join(os.path.dirname(__file__), 'payload.bin'), 'rb') as file:
        payload = file.read()
    context.log('read', len(payload))
    return context.res.text(hashlib.sha256(payload).hexdigest())
""",
}


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A `.tar.gz` of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0)


def incompressible(size: int, seed: int = 7) -> bytes:
    """Bytes that gzip cannot make smaller; the same for the same arguments."""
    return random.Random(seed).randbytes(size)


def write_archive(path: Path, files: Mapping[str, str | bytes]) -> Path:
    """The archive as a file, whose name has to end in `.tar.gz`."""
    path.write_bytes(archive(files))
    return path
