"""The egress policy decides by a list of what is denied, and opens exactly what it was told to open."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearth.executor.sandbox.egress_policy import (
    DENIED_V4,
    Rules,
    may_answer,
    opened_networks,
    parse_allow_list,
    plain,
    refusal,
)

address = ipaddress.ip_address


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "168.63.129.16",
        "169.254.100.1",
        "192.0.0.192",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fd00::1",
        "fc00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001::1",
        "64:ff9b:1::a00:1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b::169.254.169.254",
        "2002:a00:1::1",
        "2002:7f00:1::",
    ],
)
def test_local_private_and_translated_private_addresses_are_denied(text: str) -> None:
    assert refusal(address(text), 443, Rules())
    assert not may_answer(address(text), Rules())


@pytest.mark.parametrize(
    "text",
    [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "203.0.113.9",
        "192.0.2.7",
        "198.51.100.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "11.0.0.1",
        "9.255.255.255",
        "192.167.1.1",
        "192.169.1.1",
        "169.253.1.1",
        "223.255.255.255",
        "198.17.1.1",
        "198.20.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2001:db8::1",
    ],
)
def test_public_addresses_are_allowed_and_documentation_ranges_are_not_denied(text: str) -> None:
    assert refusal(address(text), 443, Rules()) == ""


def test_the_mail_port_and_the_hosts_own_addresses_are_denied() -> None:
    rules = Rules(own=frozenset({address("203.0.113.5"), address("192.0.2.2")}))
    assert refusal(address("203.0.113.5"), 443, rules) == "an address of the host itself"
    assert refusal(address("::ffff:192.0.2.2"), 443, rules)
    assert refusal(address("203.0.113.6"), 443, rules) == ""
    assert refusal(address("203.0.113.6"), 25, rules) == "mail port"
    assert refusal(address("203.0.113.6"), 587, rules) == ""


def test_an_allowed_network_opens_itself_only() -> None:
    rules = Rules(allowed=parse_allow_list(["10.1.0.0/16:5432", "192.168.7.7", "172.16.0.0/30"]).networks)
    assert refusal(address("10.1.2.3"), 5432, rules) == ""
    assert refusal(address("10.1.2.3"), 5433, rules)
    assert refusal(address("10.2.2.3"), 5432, rules)
    assert refusal(address("192.168.7.7"), 1, rules) == ""
    assert refusal(address("192.168.7.8"), 1, rules)
    assert refusal(address("172.16.0.3"), 80, rules) == ""
    assert refusal(address("172.16.0.4"), 80, rules)
    assert may_answer(address("10.1.9.9"), rules), "some port of it is open"
    assert not may_answer(address("10.2.9.9"), rules)


def test_a_pinned_address_is_open_on_its_port_even_if_it_is_the_hosts_own() -> None:
    rules = Rules(own=frozenset({address("10.0.0.9")}), pinned=frozenset({(address("10.0.0.9"), 4873)}))
    assert refusal(address("10.0.0.9"), 4873, rules) == ""
    assert refusal(address("10.0.0.9"), 8080, rules)
    assert may_answer(address("10.0.0.9"), rules)
    assert opened_networks(rules) == ["10.0.0.9/32"]


@given(st.integers(0, 2**32 - 1), st.sampled_from(["::ffff:0:0", "64:ff9b::", "::"]))
def test_a_translated_form_is_decided_as_the_address_inside(number: int, prefix: str) -> None:
    inner = ipaddress.IPv4Address(number)
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number)
    if number > 1 or prefix != "::":
        assert plain(outer) == inner
    assert bool(refusal(outer, 80, Rules())) == bool(refusal(inner, 80, Rules()))


@given(st.integers(0, 2**32 - 1), st.integers(1, 65_535))
def test_without_lists_an_address_is_refused_exactly_when_a_denied_network_holds_it(number: int, port: int) -> None:
    inner = ipaddress.IPv4Address(number)
    denied = any(inner in network for network in DENIED_V4) or port == 25
    assert bool(refusal(inner, port, Rules())) == denied


@pytest.mark.parametrize(
    "entry", ["db.internal", "host:0", "host:65536", "a b:80", "10.0.0.0/33", "[::1]x", "-x:80", ":80"]
)
def test_an_entry_that_cannot_be_read_is_named(entry: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_allow_list(["10.0.0.1", entry])
    assert entry.split(":")[0].strip("[]") in str(caught.value)


def test_entries_are_networks_or_names_with_a_port() -> None:
    found = parse_allow_list([" db.Internal:5432 ", "", "10.1.2.3", "10.1.0.0/16:443", "[fd00::1]:80", "fd00::/8"])
    assert found.names == (("db.internal", 5432),)
    assert [(str(network), port) for network, port in found.networks] == [
        ("10.1.2.3/32", None),
        ("10.1.0.0/16", 443),
        ("fd00::1/128", 80),
        ("fd00::/8", None),
    ]
