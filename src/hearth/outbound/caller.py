"""Calls to the HTTP interfaces of git hosts: only where a sandbox might connect as well, bounded in time and size.

As with `poster`, a name is looked up once and the connection goes to the address that was checked. Redirects are not
followed: an answer that leads elsewhere is the caller's to judge.
"""

import asyncio
import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from hearth.executor.sandbox.egress_policy import AllowList
from hearth.outbound.addresses import AddressRefused, allowed_address

#: Seconds for the connection, and for the whole exchange.
CONNECT_S = 5.0
TOTAL_S = 15.0
#: Exchanges at the same time; more wait for their turn within their own time.
CONCURRENT_MAX = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class CallFailed(Exception):
    """No whole answer came; the text is for the user. `again` says whether trying again may help."""

    def __init__(self, reason: str, *, again: bool) -> None:
        self.again = again
        super().__init__(reason)


class AnswerTooLarge(CallFailed):
    """The answer has more bytes than were asked for."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"its answer has more than {limit_bytes} bytes", again=False)


class Caller:
    """One bounded client for all calls. `allow` is what the operator opened besides the public internet."""

    def __init__(self, allow: AllowList) -> None:
        self._allow = allow
        # No connection is kept: the pool would know it by its address alone, not by the name the certificate was
        # checked for.
        self._client = httpx.AsyncClient(
            verify=_tls(),
            limits=httpx.Limits(max_connections=CONCURRENT_MAX, max_keepalive_connections=0),
            timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=False,
        )

    async def call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, limit_bytes: int
    ) -> Answer:
        """One exchange. Raises CallFailed; AnswerTooLarge when the answer has more than `limit_bytes`."""
        try:
            async with asyncio.timeout(TOTAL_S):
                return await self._call(method, url, headers, body, limit_bytes)
        except TimeoutError:
            raise CallFailed(f"it did not answer within {TOTAL_S:g} seconds", again=True) from None
        except AddressRefused as error:
            raise CallFailed(str(error), again=error.again) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise CallFailed(str(error) or type(error).__name__, again=True) from error

    async def close(self) -> None:
        """End the client."""
        await self._client.aclose()

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit_bytes: int
    ) -> Answer:
        target = httpx.URL(url)
        if target.scheme not in ("https", "http") or not target.host:
            raise CallFailed("its address is not https://host or http://host", again=False)
        port = target.port or (443 if target.scheme == "https" else 80)
        address = await allowed_address(target.host, port, self._allow)
        request = self._client.build_request(
            method,
            target.copy_with(host=str(address), port=port, userinfo=b""),
            content=body,
            headers=[("host", target.netloc.decode()), *headers.items()],
            extensions={"sni_hostname": target.host},
        )
        response = await self._client.send(request, stream=True)
        try:
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > limit_bytes:
                    raise AnswerTooLarge(limit_bytes)
        finally:
            await response.aclose()
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)


@functools.cache
def _tls() -> ssl.SSLContext:
    """How certificates are checked. Reading the authorities takes a moment, so it is done once."""
    return httpx.create_ssl_context(trust_env=False)
