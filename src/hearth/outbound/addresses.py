"""Where the server itself may connect to: what sandboxes may reach as well, decided on the address itself."""

import asyncio
import ipaddress
import socket

from hearth.executor.sandbox.egress_policy import Address, AllowList, Rules, plain, refusal
from hearth.executor.sandbox.netlink import own_addresses


class AddressRefused(Exception):
    """A host may not be connected to, or has no address; the text is for the user."""

    def __init__(self, reason: str, *, again: bool) -> None:
        self.again = again
        super().__init__(reason)


async def resolve(name: str) -> frozenset[str]:
    """The addresses of a host name or an address; empty when there are none. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return frozenset()
        raise
    return frozenset(str(entry[4][0]) for entry in found)


async def allowed_address(host: str, port: int, allow: AllowList) -> Address:
    """An address of `host` that may be connected to; the connection must go to it, not to the name again.

    Raises AddressRefused (`again`: another try may help) and OSError.
    """
    addresses = await _addresses(host)
    if not addresses:
        raise AddressRefused(f"The name {host} has no address.", again=True)
    pinned = {(plain(address), port) for address in addresses} if (host.lower(), port) in allow.names else set()
    rules = Rules(own_addresses(), allow.networks, frozenset(pinned))
    reasons = []
    for address in addresses:
        reason = refusal(address, port, rules)
        if not reason:
            return address
        reasons.append(f"{address} is {reason}")
    raise AddressRefused(
        f"Not allowed: {'; '.join(reasons)}. The operator can open it with HEARTH_EGRESS_ALLOW.", again=False
    )


async def _addresses(host: str) -> list[Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return [ipaddress.ip_address(text.partition("%")[0]) for text in sorted(await resolve(host))]
