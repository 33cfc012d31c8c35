"""May a sandbox connect to this address? The whole policy, as pure functions on the real destination address.

Anything on the public internet is allowed; what is local, private or the host's own is not, unless the operator's
list or a package registry's name opened exactly that. Documentation ranges are not denied: machines exist whose
package registries have such addresses. So this is a list of what is denied, never "is it global".
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DENIED_V4: Sequence[ipaddress.IPv4Network] = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",  # private (RFC 1918)
            "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's platform services: metadata, keys of the machine
            "169.254.0.0/16",  # link-local, cloud metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments, DS-Lite
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmark networks (RFC 2544)
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
DENIED_V6: Sequence[ipaddress.IPv6Network] = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/128",  # unspecified
            "::1/128",  # loopback
            "64:ff9b:1::/48",  # local-use NAT64 (RFC 8215)
            "100::/64",  # discard
            "2001::/32",  # Teredo
            "fc00::/7",  # unique local
            "fe80::/10",  # link-local
            "fec0::/10",  # site-local
            "ff00::/8",  # multicast
        ),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")
MAIL_PORT = 25

_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AllowList:
    """The operator's entries, parsed: networks (with a port, or None for every port) and names with a port."""

    networks: tuple[tuple[Network, int | None], ...] = ()
    names: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What decisions are made by at one moment.

    `own` are the host's interface addresses; `allowed` the operator's networks; `pinned` the addresses and ports
    that the gate itself resolved for the operator's names and the package registries.
    """

    own: frozenset[Address] = frozenset()
    allowed: tuple[tuple[Network, int | None], ...] = ()
    pinned: frozenset[tuple[Address, int]] = frozenset()


def parse_allow_list(entries: Iterable[str]) -> AllowList:
    """Read `host:port` and `CIDR[:port]` entries (IPv6 with a port in brackets).

    Raises ValueError naming the bad entry.
    """
    networks: list[tuple[Network, int | None]] = []
    names: list[tuple[str, int]] = []
    for entry in filter(None, map(str.strip, entries)):
        host, port = _split_port(entry)
        try:
            networks.append((ipaddress.ip_network(host, strict=False), port))
            continue
        except ValueError:
            pass
        if port is None or not _HOST_NAME.match(host) or len(host) > 253:
            raise ValueError(f"{entry!r} is neither host:port nor an address or network with an optional :port")
        names.append((host.rstrip(".").lower(), port))
    return AllowList(tuple(networks), tuple(names))


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        text = rest.removeprefix(":") if rest else None
    elif entry.count(":") == 1:
        host, _, text = entry.partition(":")
    else:
        host, text = entry, None
    if text is None:
        return host, None
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65_536:
        raise ValueError(f"{entry!r}: the port is not a number from 1 to 65535")
    return host, int(text)


def plain(address: Address) -> Address:
    """The IPv4 address inside a v4-mapped, v4-compatible, NAT64 or 6to4 form; other addresses as they are."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def refusal(address: Address, port: int, rules: Rules) -> str:
    """Why a connection to `address` and `port` is refused; `""` when it is allowed."""
    address = plain(address)
    if (address, port) in rules.pinned:
        return ""
    if any(address in network and only in (None, port) for network, only in rules.allowed):
        return ""
    if port == MAIL_PORT:
        return "mail port"
    if address in rules.own:
        return "an address of the host itself"
    denied = DENIED_V4 if address.version == 4 else DENIED_V6
    inside = next((network for network in denied if address in network), None)
    return f"not public ({inside})" if inside is not None else ""


def may_answer(address: Address, rules: Rules) -> bool:
    """Whether a name may resolve to `address`: some port of it may be reached."""
    if not refusal(address, 443, rules):
        return True
    address = plain(address)
    opened = any(pinned == address for pinned, _ in rules.pinned)
    return opened or any(address in network for network, _ in rules.allowed)


def opened_networks(rules: Rules) -> list[str]:
    """The IPv4 networks that the sandboxes' own firewall must let pass to the gate, which decides on the port."""
    found = {str(network) for network, _ in rules.allowed if network.version == 4}
    found |= {f"{address}/32" for address, _ in rules.pinned if address.version == 4}
    return sorted(found)
