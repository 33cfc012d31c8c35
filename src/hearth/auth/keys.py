"""Project API keys: how they look and how they are compared (contract: side-services 4).

A secret is `standard_` and 256 hex digits. It has 1024 random bits, so one round of SHA-256 is enough to store it;
a slow hash would protect nothing and cost every request.
"""

import hashlib
import secrets

PREFIX = "standard_"


def new_secret() -> str:
    """A new key secret, to be shown once."""
    return PREFIX + secrets.token_hex(128)


def hash_secret(secret: str) -> str:
    """The stored form of a key secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
