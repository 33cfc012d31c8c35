"""Sealing a file's worth of bytes with a passphrase: the keys of an installation inside a backup."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

#: Shortest passphrase taken: whoever has the file can try as many as he likes.
PASSPHRASE_MIN_CHARACTERS = 12
_FORMAT = b"\x01"  # scrypt with the cost below, AES-256-GCM; a later scheme takes another number
_SALT_BYTES = 16
_NONCE_BYTES = 12
# RFC 7914: 64 MiB and about 0.2 s for each guess.
_COST, _BLOCK, _LANES = 2**16, 8, 1


class WrongPassphrase(Exception):
    """The passphrase does not open this, or what it seals was changed."""


def seal_with_passphrase(data: bytes, passphrase: str) -> bytes:
    """Encrypt `data`; different each time. Takes a moment and 64 MiB on purpose."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    head = _FORMAT + salt + nonce
    return head + AESGCM(_key(passphrase, salt)).encrypt(nonce, data, head)


def open_with_passphrase(blob: bytes, passphrase: str) -> bytes:
    """Decrypt what `seal_with_passphrase` made. Raises WrongPassphrase."""
    end = 1 + _SALT_BYTES + _NONCE_BYTES
    head, salt, nonce = blob[:end], blob[1 : 1 + _SALT_BYTES], blob[1 + _SALT_BYTES : end]
    if head[:1] != _FORMAT or len(head) != end:
        raise WrongPassphrase("the sealed keys have a form this version does not know")
    try:
        return AESGCM(_key(passphrase, salt)).decrypt(nonce, blob[end:], head)
    except InvalidTag:
        raise WrongPassphrase("the passphrase does not open the keys of this backup") from None


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_COST, r=_BLOCK, p=_LANES).derive(passphrase.encode("utf-8", "surrogatepass"))
