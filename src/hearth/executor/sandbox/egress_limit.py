"""A sandbox that may connect only to what its list names, within what is allowed to all. Pure.

A name is opened by asking for it: whatever the gate answered this sandbox for a listed name, it may connect to on the
listed ports. Names that are not listed are not asked for at all, so that questions carry nothing out either.
"""

from collections import OrderedDict
from collections.abc import Iterable

from hearth.executor.sandbox.config import API_NAME, API_PSEUDO_PORT
from hearth.executor.sandbox.egress_policy import Address, parse_allow_list, plain

LEARNED_MAX = 4_096
"""Addresses of names that are remembered; the one answered longest ago is forgotten first."""


class EgressLimit:
    """The list of one sandbox, and the addresses it has been told for its names."""

    def __init__(self, entries: Iterable[str]) -> None:
        """`host:port` and networks with an optional port; none = nothing may be reached. Raises ValueError."""
        listed = parse_allow_list(entries)
        self._networks = listed.networks
        self._ports: dict[str, frozenset[int]] = {}
        for name, port in listed.names:
            self._ports[name] = self._ports.get(name, frozenset()) | {port}
        self._learned: OrderedDict[Address, frozenset[int]] = OrderedDict()

    def may_ask(self, name: str) -> bool:
        """Whether a name (lower case, no final dot) may be asked for."""
        return name in self._ports

    def learn(self, name: str, address: Address) -> None:
        """The sandbox is told that `name` has this address."""
        address = plain(address)
        self._learned[address] = self._learned.pop(address, frozenset()) | self._ports.get(name, frozenset())
        if len(self._learned) > LEARNED_MAX:
            self._learned.popitem(last=False)

    def allows(self, address: Address, port: int) -> bool:
        """Whether the list names this destination."""
        address = plain(address)
        if port in self._learned.get(address, ()):
            return True
        return any(address in network and only in (None, port) for network, only in self._networks)

    def allows_api(self) -> bool:
        """Whether the list names the platform's own API."""
        return API_PSEUDO_PORT in self._ports.get(API_NAME, ())
