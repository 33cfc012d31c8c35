"""Passwords of people, argon2id (RFC 9106). Both calls take tens of milliseconds: run them in a thread."""

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """The stored form, parameters included."""
    return _hasher.hash(password)


def verify_password(stored: str, password: str) -> bool:
    """Whether `password` is the one that was hashed."""
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def new_password() -> str:
    """A random password to be given to a person once (120 bits)."""
    return secrets.token_urlsafe(15)
