"""A sandbox's network: route and nf_tables rules told to the kernel directly, and the host's own addresses.

Inside there is only `lo`. A local default route makes every IPv4 address end at `lo`; a nat chain redirects TCP to
the gate's listener and DNS to the gate's socket; filter chains refuse connections to what the gate would not allow
(so that they fail at once, as on a closed port) and every other datagram. The gate decides again.
Messages are built here (linux/netfilter/nf_tables.h, rtnetlink(7)): neither `nft` nor `ip` is needed.
"""

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence

from hearth.executor.sandbox import egress_policy, syscalls

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
RECEIVE_BYTES = 1 << 16

GATE_PORT = 47_001
"""Port of the gate's TCP listener inside every sandbox."""
DNS_ADDRESS = ("127.0.0.1", 53)
"""Where the gate's DNS socket is bound inside every sandbox; what resolv.conf names."""

_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_APPEND, _NLM_F_DUMP = 1, 4, 0x200, 0x400, 0x800, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE = 20, 22, 24
_NESTED = 0x8000

# nf_tables
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0, 3, 6
_HOOK_LOCAL_OUT = 3
_ACCEPT, _RETURN = 1, -5 & 0xFFFF_FFFF
_REGISTER = 1
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_EQUAL, _NOT_EQUAL = 0, 1
_META_L4PROTO = 16
_CT_STATE = 0
_STATE_ESTABLISHED_RELATED = 0x6
_TABLE = b"hearth\0"


class NetlinkError(OSError):
    """The kernel refused a netlink message."""


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _nested(kind: int, *parts: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(parts))


def _word(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">I", value))


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | flags, sequence, 0) + body


def _replies(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence, body) of each message in a datagram."""
    position = 0
    while position + 16 <= len(data):
        length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, position)
        if length < 16:
            return
        yield kind, sequence, data[position + 16 : position + length]
        position += length + (-length % 4)


def _ask(protocol: int, request: bytes, acknowledgements: int, what: str) -> None:
    """Send messages and wait for their acknowledgements; raises NetlinkError for the first one refused."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as link:
        link.bind((0, 0))
        link.settimeout(5)
        link.send(request)
        while acknowledgements > 0:
            for kind, sequence, body in _replies(link.recv(RECEIVE_BYTES)):
                if kind != _NLMSG_ERROR:
                    continue
                number = -struct.unpack_from("=i", body)[0]
                if number:
                    raise NetlinkError(number, f"{what}, message {sequence}: {os.strerror(number)}")
                acknowledgements -= 1


def add_local_default_route() -> None:
    """Make every IPv4 address local to this network namespace: `ip route add local default dev lo`."""
    # struct rtmsg: family, dst_len, src_len, tos, table main, protocol boot, scope host, type local, flags
    body = struct.pack("=8BI", socket.AF_INET, 0, 0, 0, 254, 3, 254, 2, 0)
    body += _attribute(4, struct.pack("=I", socket.if_nametoindex("lo")))  # RTA_OIF
    flags = _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL
    _ask(NETLINK_ROUTE, _message(_RTM_NEWROUTE, flags, 1, body), 1, "local route")


# ---------------------------------------------------------------------------------------------- rules


def _expression(name: str, *attributes: bytes) -> bytes:
    parts = [_attribute(1, name.encode() + b"\0")]
    parts.append(_nested(2, *attributes))
    return _nested(1, *parts)


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _word(1, _REGISTER), _word(2, base), _word(3, offset), _word(4, length))


def _meta(key: int) -> bytes:
    return _expression("meta", _word(1, _REGISTER), _word(2, key))


def _compare(value: bytes, operator: int = _EQUAL) -> bytes:
    return _expression("cmp", _word(1, _REGISTER), _word(2, operator), _nested(3, _attribute(1, value)))


def _verdict(code: int) -> bytes:
    return _expression("immediate", _word(1, 0), _nested(2, _nested(2, _word(1, code))))


def _redirect(port: int) -> tuple[bytes, bytes]:
    load = _expression("immediate", _word(1, _REGISTER), _nested(2, _attribute(1, struct.pack(">H", port))))
    return load, _expression("redir", _word(1, _REGISTER))


def _established() -> tuple[bytes, bytes, bytes]:
    state = _expression("ct", _word(2, _CT_STATE), _word(1, _REGISTER))
    mask = _expression(
        "bitwise",
        _word(1, _REGISTER),
        _word(2, _REGISTER),
        _word(3, 4),
        _nested(4, _attribute(1, struct.pack("=I", _STATE_ESTABLISHED_RELATED))),
        _nested(5, _attribute(1, bytes(4))),
    )
    return state, mask, _compare(bytes(4), _NOT_EQUAL)


_TO_LOOPBACK = (_load(_NETWORK_HEADER, 16, 1), _compare(b"\x7f"))
_IS_TCP = (_meta(_META_L4PROTO), _compare(b"\x06"))
_IS_DNS = (_meta(_META_L4PROTO), _compare(b"\x11"), _load(_TRANSPORT_HEADER, 2, 2), _compare(struct.pack(">H", 53)))
_REJECT = _expression("reject", _word(1, 0), _attribute(2, b"\x03"))  # ICMP port unreachable
_RESET = _expression("reject", _word(1, 1), _attribute(2, b"\0"))  # TCP reset
_IS_MAIL = (_load(_TRANSPORT_HEADER, 2, 2), _compare(struct.pack(">H", egress_policy.MAIL_PORT)))

_NAT_RULES: Sequence[Sequence[bytes]] = (
    (*_TO_LOOPBACK, _verdict(_RETURN)),
    (*_IS_TCP, *_redirect(GATE_PORT)),
    (*_IS_DNS, *_redirect(DNS_ADDRESS[1])),
)
_FILTER_RULES: Sequence[Sequence[bytes]] = (
    (*_TO_LOOPBACK, _verdict(_ACCEPT)),
    (*_IS_TCP, _verdict(_ACCEPT)),  # what is not for loopback was redirected to it before this chain
    (*_established(), _verdict(_ACCEPT)),  # answers of the DNS socket to a redirected question
    (_REJECT,),
)


def _to(address: bytes, length: int) -> tuple[bytes, ...]:
    """Matches a destination network."""
    if length == 0:
        return ()
    load = _load(_NETWORK_HEADER, 16, 4)
    mask = (0xFFFF_FFFF << (32 - length) & 0xFFFF_FFFF).to_bytes(4, "big")
    network = bytes(byte & kept for byte, kept in zip(address, mask, strict=True))
    narrow = _expression(
        "bitwise",
        *(_word(1, _REGISTER), _word(2, _REGISTER), _word(3, 4)),
        _nested(4, _attribute(1, mask)),
        _nested(5, _attribute(1, bytes(4))),
    )
    return load, narrow, _compare(network)


def _is_reset() -> tuple[bytes, ...]:
    """Matches a TCP reset: those this firewall sends go back to an address that is also the refused one."""
    narrow = _expression(
        "bitwise",
        *(_word(1, _REGISTER), _word(2, _REGISTER), _word(3, 1)),
        _nested(4, _attribute(1, b"\x04")),
        _nested(5, _attribute(1, bytes(1))),
    )
    return (*_IS_TCP, _load(_TRANSPORT_HEADER, 13, 1), narrow, _compare(b"\x04"))


def _early_rules(opened: Sequence[tuple[bytes, int]], own: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Before any redirect: what may pass for the gate to decide, and what is refused here already."""
    rules: list[Sequence[bytes]] = [(*_TO_LOOPBACK, _verdict(_ACCEPT)), (*_is_reset(), _verdict(_ACCEPT))]
    rules += [(*_to(address, length), _verdict(_ACCEPT)) for address, length in opened]
    denied = [(network.network_address.packed, network.prefixlen) for network in egress_policy.DENIED_V4]
    denied += [(address, 32) for address in own]
    rules += [(*_IS_TCP, *_to(address, length), _RESET) for address, length in denied]
    rules.append((*_IS_TCP, *_IS_MAIL, _RESET))
    return rules


def _batch(early: Sequence[Sequence[bytes]]) -> tuple[bytes, int]:
    """The transaction that makes the table, and how many acknowledgements it brings."""
    family = struct.pack("=BBH", socket.AF_INET, 0, 0)
    edge = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    chains = (
        (b"early\0", b"filter\0", -150, early),
        (b"nat\0", b"nat\0", -100, _NAT_RULES),
        (b"late\0", b"filter\0", 0, _FILTER_RULES),
    )
    steps: list[tuple[int, int, bytes]] = [(_NEWTABLE, _NLM_F_CREATE, _attribute(1, _TABLE))]
    for name, type, priority, _ in chains:
        hook = _nested(4, _word(1, _HOOK_LOCAL_OUT), _word(2, priority & 0xFFFF_FFFF))
        body = _attribute(1, _TABLE) + _attribute(3, name) + hook + _attribute(7, type) + _word(5, _ACCEPT)
        steps.append((_NEWCHAIN, _NLM_F_CREATE, body))
    for name, _, _, rules in chains:
        for rule in rules:
            body = _attribute(1, _TABLE) + _attribute(2, name) + _nested(4, *rule)
            steps.append((_NEWRULE, _NLM_F_CREATE | _NLM_F_APPEND, body))
    messages = [_message(_BATCH_BEGIN, 0, 0, edge)]
    for sequence, (kind, flags, body) in enumerate(steps, 1):
        # acknowledging only the end is enough: a refused step is told anyway
        last = _NLM_F_ACK if sequence == len(steps) else 0
        messages.append(_message(_SUBSYSTEM << 8 | kind, flags | last, sequence, family + body))
    messages.append(_message(_BATCH_END, 0, len(steps) + 1, edge))
    return b"".join(messages), 1


def add_firewall(opened: Sequence[tuple[bytes, int]] = (), own: Sequence[bytes] = ()) -> None:
    """Install the chains in this network namespace; raises NetlinkError.

    `opened` are networks (packed address, prefix length) to pass on to the gate though they are not public, `own`
    the host's own addresses (packed), both IPv4.
    """
    batch, acknowledgements = _batch(_early_rules(opened, own))
    _ask(NETLINK_NETFILTER, batch, acknowledgements, "nf_tables")


def open_gate_sockets(
    opened: Sequence[tuple[bytes, int]] = (), own: Sequence[bytes] = ()
) -> tuple[socket.socket, socket.socket]:
    """Prepare this (new) network namespace for the gate and return its TCP listener and DNS socket.

    Called with CAP_NET_ADMIN before capabilities are dropped; the sockets belong to this namespace for ever,
    whichever process holds them.
    """
    syscalls.loopback_up()
    add_local_default_route()
    add_firewall(opened, own)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", GATE_PORT))
    listener.listen(512)
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    dns.bind(DNS_ADDRESS)
    return listener, dns


def own_addresses() -> frozenset[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Every address of every interface of this network namespace (unprivileged)."""
    found: set[ipaddress.IPv4Address | ipaddress.IPv6Address] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE) as link:
        link.bind((0, 0))
        link.settimeout(5)
        link.send(_message(_RTM_GETADDR, _NLM_F_DUMP, 1, bytes(8)))
        while True:
            for kind, _, body in _replies(link.recv(RECEIVE_BYTES)):
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return frozenset(found)
                if kind == _RTM_NEWADDR:
                    found.update(_addresses_of(body))


def _addresses_of(body: bytes) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """IFA_ADDRESS and IFA_LOCAL of one RTM_NEWADDR message."""
    position = 8
    while position + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, position)
        if length < 4:
            return
        if kind in (1, 2):
            with contextlib.suppress(ValueError):
                yield ipaddress.ip_address(body[position + 4 : position + length])
        position += length + (-length % 4)
