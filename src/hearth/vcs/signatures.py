"""How git hosts sign their webhooks. Compared in constant time; a missing secret fits nothing."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from hearth.ports import BadSignature

#: Begins the signing keys of Standard Webhooks (https://www.standardwebhooks.com), as GitLab has them.
_KEY_PREFIX = "whsec_"


def digest(body: bytes, secret: str) -> str:
    """HMAC-SHA256 of a body in hex."""
    return hmac.new(secret.encode("utf-8", "replace"), body, hashlib.sha256).hexdigest()


def check_digest(headers: Mapping[str, str], names: tuple[str, ...], body: bytes, secret: str) -> None:
    """Check the HMAC-SHA256 (hex, maybe after `sha256=`) in the first header of `names` that is there.

    GitHub and Bitbucket write `sha256=`, Gitea and Forgejo the hex alone. Raises BadSignature.
    """
    given = next((headers[name] for name in names if headers.get(name)), "")
    if not secret or not given:
        raise BadSignature(f"the webhook has no signature in {names[0]}; set its secret at the git host")
    if not _same(given.removeprefix("sha256="), digest(body, secret)):
        raise BadSignature(f"the signature in {names[0]} is not that of the webhook's secret")


def signing_key(secret: str) -> str:
    """The Standard Webhooks key that belongs to a secret: the secret itself if it is one, else 32 bytes made of it."""
    if secret.startswith(_KEY_PREFIX):
        return secret
    made = hmac.new(secret.encode("utf-8", "replace"), b"standard webhooks signing key", hashlib.sha256).digest()
    return _KEY_PREFIX + base64.b64encode(made).decode()


def check_gitlab(headers: Mapping[str, str], body: bytes, secret: str) -> None:
    """Check `webhook-signature` where GitLab signs (it then must be right), else the secret in `X-Gitlab-Token`.

    Raises BadSignature.
    """
    if not secret:
        raise BadSignature("the installation has no webhook secret")
    signatures = headers.get("webhook-signature", "")
    if signatures:
        signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode("utf-8", "replace")
        expected = "v1," + base64.b64encode(hmac.digest(_key_bytes(secret), signed + body, hashlib.sha256)).decode()
        if not any(_same(given, expected) for given in signatures.split(" ")[:8]):
            raise BadSignature("the signature in webhook-signature is not that of the webhook's signing token")
        return
    given = headers.get("x-gitlab-token", "")
    if not given:
        raise BadSignature("the webhook has no X-Gitlab-Token; set its secret token at the git host")
    if not _same(given, secret):
        raise BadSignature("X-Gitlab-Token is not the webhook's secret")


def _key_bytes(secret: str) -> bytes:
    try:
        return base64.b64decode(signing_key(secret).removeprefix(_KEY_PREFIX), validate=True)
    except ValueError:
        raise BadSignature("the webhook's signing token is not whsec_ and base64") from None


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))
