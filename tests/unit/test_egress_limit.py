"""The list of one sandbox opens exactly what it names, and a name only as far as it was asked for."""

import ipaddress

import pytest

from hearth.executor.sandbox.egress_limit import LEARNED_MAX, EgressLimit

address = ipaddress.ip_address


def test_an_empty_list_opens_nothing() -> None:
    limit = EgressLimit(())
    assert not limit.may_ask("public.test")
    assert not limit.allows(address("198.51.100.7"), 443)
    assert not limit.allows_api()


def test_networks_are_open_with_their_port_or_with_every_port() -> None:
    limit = EgressLimit(("198.51.100.0/24", "203.0.113.9:443"))
    assert limit.allows(address("198.51.100.7"), 1)
    assert limit.allows(address("::ffff:198.51.100.7"), 1)
    assert limit.allows(address("203.0.113.9"), 443)
    assert not limit.allows(address("203.0.113.9"), 80)
    assert not limit.allows(address("203.0.113.8"), 443)


def test_a_name_opens_the_addresses_it_was_answered_with_on_its_ports_alone() -> None:
    limit = EgressLimit(("Public.test:443", "public.test:80", "other.test:5432"))
    assert limit.may_ask("public.test")
    assert not limit.may_ask("sub.public.test")
    assert not limit.allows(address("198.51.100.7"), 443)
    limit.learn("public.test", address("198.51.100.7"))
    limit.learn("other.test", address("198.51.100.8"))
    assert limit.allows(address("198.51.100.7"), 443)
    assert limit.allows(address("198.51.100.7"), 80)
    assert not limit.allows(address("198.51.100.7"), 5432)
    limit.learn("other.test", address("198.51.100.7"))
    assert limit.allows(address("198.51.100.7"), 5432)
    assert limit.allows(address("198.51.100.7"), 80)


def test_the_platforms_api_is_reached_if_it_is_listed() -> None:
    assert EgressLimit(("hearth.internal:80",)).allows_api()
    assert not EgressLimit(("hearth.internal:8080", "0.0.0.0/0")).allows_api()


def test_addresses_that_were_answered_long_ago_are_forgotten() -> None:
    limit = EgressLimit(("public.test:80",))
    for number in range(LEARNED_MAX + 1):
        limit.learn("public.test", ipaddress.IPv4Address(0x0B000000 + number))
        limit.learn("public.test", address("198.51.100.7"))
    assert not limit.allows(address("11.0.0.0"), 80)
    assert limit.allows(address("198.51.100.7"), 80)


def test_an_entry_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="neither host:port"):
        EgressLimit(("public.test",))
