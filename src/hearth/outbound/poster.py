"""Posts to addresses that users chose: only where a sandbox might connect as well, and never longer than a bound.

A name is looked up once and the connection goes to the address that was checked, so a name that changes its mind in
between leads nowhere else. Redirects are not followed.
"""

import asyncio
from collections.abc import Mapping

import httpx

from hearth.executor.sandbox.egress_policy import AllowList
from hearth.outbound.addresses import AddressRefused, allowed_address
from hearth.ports import Posted, PostFailed

#: Seconds for the connection, and for the whole exchange.
CONNECT_S = 5.0
TOTAL_S = 15.0
#: Bytes of an answer that are looked at.
ANSWER_BYTES = 2_048


class Poster:
    """See `hearth.ports.Poster`. `allow` is what the operator opened besides the public internet."""

    def __init__(self, allow: AllowList) -> None:
        self._allow = allow
        # Two clients, because certificates are checked or not for a whole client. No connection is kept: receivers
        # are many and each is called rarely.
        limits = httpx.Limits(max_keepalive_connections=0)
        timeout = httpx.Timeout(TOTAL_S, connect=CONNECT_S)
        self._clients = {
            verify: httpx.AsyncClient(
                verify=verify, limits=limits, timeout=timeout, follow_redirects=False, trust_env=False
            )
            for verify in (True, False)
        }

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, verify: bool) -> Posted:
        """See the port."""
        try:
            async with asyncio.timeout(TOTAL_S):
                return await self._post(url, headers, body, verify=verify)
        except TimeoutError:
            raise PostFailed(f"The address did not answer within {TOTAL_S:g} seconds.") from None
        except AddressRefused as error:
            raise PostFailed(str(error), again=error.again) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise PostFailed(f"The address could not be reached: {str(error) or type(error).__name__}.") from error

    async def close(self) -> None:
        """End the clients."""
        for client in self._clients.values():
            await client.aclose()

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, *, verify: bool) -> Posted:
        target = httpx.URL(url)
        port = target.port or (443 if target.scheme == "https" else 80)
        address = await allowed_address(target.host, port, self._allow)
        host = target.netloc
        request = self._clients[verify].build_request(
            "POST",
            target.copy_with(host=str(address), port=port),
            content=body,
            headers=[(b"host", host), *((name.encode(), _clean(value)) for name, value in headers.items())],
            # Certificates are for the name, not for the address it had.
            extensions={"sni_hostname": target.host},
        )
        response = await self._clients[verify].send(request, stream=True)
        try:
            text = await _beginning(response)
        finally:
            await response.aclose()
        return Posted(response.status_code, text)


async def _beginning(response: httpx.Response) -> str:
    """The first bytes of an answer, as text."""
    data = b""
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) >= ANSWER_BYTES:
            break
    return data[:ANSWER_BYTES].decode("utf-8", "replace")


def _clean(value: str) -> bytes:
    """A header value without what would end the line."""
    return "".join(char if char.isprintable() else " " for char in value).encode()
