"""Encryption of values at rest: the key file and the cipher. Tokens and passwords live elsewhere.

The key never enters the database and the values never leave the process in clear except through the API or
into a run. What is missing or unsafe about the key file is said at start; nothing is repaired by guessing,
since a fresh key would make every stored value unreadable.
"""

import base64
import contextlib
import os
import stat
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D: the size GCM is made for
_FORMAT = b"\x01"  # AES-256-GCM, random nonce in front; a later scheme takes another number


class KeyFileRefused(Exception):
    """The key file cannot be used; the text says what is wrong and what to do. The server must not start."""


class Undecipherable(ValueError):
    """A blob was not sealed with this key and this context, or was changed since."""


#: Where sealed texts belong that are in no row.
_BROWSER = b"browser"


class VariableCipher:
    """Seals texts with AES-256-GCM. Safe to share between tasks and threads.

    `aad` names where the text belongs (project, resource and variable id): a blob moved to another row does
    not open. Nonces are random; one key is good for 2**32 texts.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key must have {KEY_BYTES} bytes")
        self._aes = AESGCM(key)

    def seal(self, text: str, aad: bytes) -> bytes:
        """Encrypt `text`; the answer is binary and different each time."""
        return self.seal_bytes(text.encode("utf-8", "surrogatepass"), aad)

    def open(self, blob: bytes, aad: bytes) -> str:
        """Decrypt what `seal` made. Raises Undecipherable."""
        try:
            return self.open_bytes(blob, aad).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Undecipherable("the stored value is not a text") from error

    def seal_bytes(self, content: bytes, aad: bytes) -> bytes:
        """`seal` for any bytes."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._aes.encrypt(nonce, content, aad)

    def open_bytes(self, blob: bytes, aad: bytes) -> bytes:
        """Decrypt what `seal_bytes` or `seal` made. Raises Undecipherable."""
        if blob[:1] != _FORMAT:
            raise Undecipherable("the stored value has an unknown format")
        nonce, sealed = blob[1 : 1 + _NONCE_BYTES], blob[1 + _NONCE_BYTES :]
        try:
            return self._aes.decrypt(nonce, sealed, aad)
        except (InvalidTag, ValueError) as error:
            raise Undecipherable("the stored value was not encrypted with this key") from error

    def seal_text(self, text: str) -> str:
        """`seal` for what goes through somebody's browser and comes back."""
        return base64.urlsafe_b64encode(self.seal(text, _BROWSER)).decode()

    def open_text(self, sealed: str) -> str:
        """The text again. Raises ValueError for what `seal_text` did not make."""
        try:
            blob = base64.b64decode(sealed.encode(), altchars=b"-_", validate=True)
        except ValueError as error:
            raise Undecipherable("not a sealed text") from error
        return self.open(blob, _BROWSER)


def load_or_create_key(path: Path, *, may_create: bool) -> bytes:
    """Return the 32 bytes of the key file, making it (mode 0600) on the very first start.

    `may_create` is true only while nothing has been encrypted yet. Raises KeyFileRefused if the file is
    missing although data exists, unreadable, not 32 bytes long, or open to other users (isolation case S2).
    Two processes that start at once end up with the same key.
    """
    if may_create and not os.path.lexists(path):
        _create(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KeyFileRefused(
            f"The key file {path} is missing, but the database holds values encrypted with it. "
            "Put the file back from your backup; a new key could not read them."
        ) from None
    except OSError as error:
        raise KeyFileRefused(f"The key file {path} cannot be read: {error.strerror}.") from error
    try:
        _check_access(path, os.fstat(descriptor))
        key = os.read(descriptor, KEY_BYTES + 1)
    except OSError as error:
        raise KeyFileRefused(f"The key file {path} cannot be read: {error.strerror}.") from error
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise KeyFileRefused(
            f"The key file {path} must hold exactly {KEY_BYTES} bytes. Put the original back from your backup."
        )
    return key


def _check_access(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileRefused(f"The key file {path} is not a regular file.")
    if status.st_mode & 0o077:
        raise KeyFileRefused(
            f"The key file {path} has mode {stat.S_IMODE(status.st_mode):04o}: others may read or change it. "
            f"Run: chmod 600 {path}"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileRefused(f"The key file {path} belongs to another user (uid {status.st_uid}).")


def _create(path: Path) -> None:
    """Write a new key beside `path` and link it into place: whoever comes second keeps the first one's key."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".key-", dir=path.parent)  # mode 0600
    except OSError as error:
        raise KeyFileRefused(f"The key file {path} cannot be created: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    except OSError as error:
        raise KeyFileRefused(f"The key file {path} cannot be created: {error.strerror}.") from error
    finally:
        Path(temporary).unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
