"""The address of the client behind a request (contract: functions-api 15, `x-forwarded-for`)."""

from ipaddress import ip_address

from hearth.api.messages import Request


def client_address(request: Request, trusted_proxies: frozenset[str]) -> str:
    """The client of a request; see `client_behind`."""
    client = request.scope.get("client")
    return client_behind(client[0] if client else "", request.headers.get(b"x-forwarded-for"), trusted_proxies)


def client_behind(peer: str, forwarded: bytes | None, trusted_proxies: frozenset[str]) -> str:
    """The peer's address or, when the peer is a trusted proxy, the nearest untrusted one that `forwarded` names.

    What the client itself wrote into the header stands left of what the proxies added, so it is never believed.
    """
    if forwarded is None or (peer and peer not in trusted_proxies):
        return peer
    for entry in reversed(forwarded.decode("latin-1").split(",")):
        try:
            address = str(ip_address(entry.strip()))
        except ValueError:
            return peer
        if address not in trusted_proxies:
            return address
        peer = address
    return peer
