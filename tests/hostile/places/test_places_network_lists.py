# SPDX-License-Identifier: Apache-2.0
"""Network lists: what a file may say, and each fault with its place and what to write instead."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iap_authz.adapters.facts.network_lists import LISTS_MAX, parse_network_lists, parse_prefix
from iap_authz.errors import Invalid, Malformed
from iap_authz.facts.location import NetworkList


def faults_of(content: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse_network_lists(content.encode(), "networks.yaml")
    return [str(fault) for fault in caught.value.faults]


def test_lists_are_read_in_the_order_of_the_file() -> None:
    content = b'networks:\n  office: ["198.51.100.0/24", "2001:DB8:1::/48"]\n  vpn: [10.8.0.0/16]\n  empty: []\n'
    networks = parse_network_lists(content, "networks.yaml")
    assert networks.lists == (
        NetworkList(name="office", networks=(ip_network("198.51.100.0/24"), ip_network("2001:db8:1::/48"))),
        NetworkList(name="vpn", networks=(ip_network("10.8.0.0/16"),)),
        NetworkList(name="empty", networks=()),
    )
    assert networks.source == "office+vpn+empty"


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.1/32", "::1/128", "255.255.255.255/32", "2002::/16"])
def test_a_prefix_means_what_it_says(text: str) -> None:
    assert parse_prefix(text) == ip_network(text)


FIXES = [
    ("10.0.0.1/8", "with host bits set, want 10.0.0.0/8"),
    ("198.51.100.7/24", "with host bits set, want 198.51.100.0/24"),
    ("2001:db8::1/32", "with host bits set, want 2001:db8::/32"),
    ("10.0.0.1/0", "with host bits set, want 0.0.0.0/0"),
    ("10.0.0.1", "without a length, want 10.0.0.1/32"),
    ("2001:db8::1", "without a length, want 2001:db8::1/128"),
    ("::ffff:10.0.0.1", "without a length, want 10.0.0.1/32"),
    ("::ffff:10.0.0.0/104", "in IPv6 notation, want 10.0.0.0/8"),
    ("::ffff:10.0.0.1/128", "in IPv6 notation, want 10.0.0.1/32"),
    ("10.0.0.0/255.0.0.0", "want a prefix such as"),
    ("10.0.0.0/0.255.255.255", "want a prefix such as"),
    ("10.0.0.0/33", "want a prefix such as"),
    ("::/129", "want a prefix such as"),
    ("10.0.0.0/08", "want a prefix such as"),
    ("10.0.0.0/+8", "want a prefix such as"),
    ("10.0.0.0/-8", "want a prefix such as"),
    ("10.0.0.0/\u0668", "want a prefix such as"),
    ("10.0.0.0/", "want a prefix such as"),
    ("/8", "want a prefix such as"),
    ("10/8", "want a prefix such as"),
    ("010.0.0.0/8", "want a prefix such as"),
    ("010.0.0.0", "want a prefix such as"),
    ("10.0.0.0/8/8", "want a prefix such as"),
    ("10.0.0.0/8 ", "want a prefix such as"),
    ("10.0.0.0-10.0.0.9", "want a prefix such as"),
    ("10.0.0.*", "want a prefix such as"),
    ("fe80::%eth0/64", "want a prefix such as"),
    ("office.example.com", "want a prefix such as"),
    ("", "want a prefix such as"),
]


@pytest.mark.parametrize(("text", "message"), FIXES)
def test_the_fault_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_prefix(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200
    found = faults_of(f'networks:\n  office:\n  - "192.0.2.0/24"\n  - "{text}"\n')
    assert len(found) == 1
    assert found[0].startswith("networks.yaml:4:5: networks.office[1]: got ")
    assert message in found[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "networks: {office: 10.0.0.0/8}",
            "networks.yaml:1:20: networks.office: got '10.0.0.0/8', want a list of texts",
        ),
        ("networks: {office: [[10.0.0.0/8]]}", "networks.office[0]: got a list, want text"),
        ("networks: {office: }", "networks.office: missing"),
        ("networks: [10.0.0.0/8]", "networks: got a list, want a mapping"),
        ("networks: {a+b: []}", "got 'a+b' as a name, want letters"),
        ("networks: {'': []}", "got '' as a name"),
        ("networks: {'a b': []}", "got 'a b' as a name"),
        ("networks: {'b\\u00fcro': []}", "as a name"),
        (f"networks: {{{'a' * 64}: []}}", "as a name"),
        ("networks: {a: [], a: []}", "networks.a: got this key twice"),
        ("network: {}", "networks: missing"),
        ("networks: {}\nnetwork: {}", "network: unknown key, want one of networks (did you mean networks?)"),
        ("networks: &x {}", "got an anchor"),
        ("networks: {office: [!!str 10.0.0.0/8]}", "got an anchor, alias or tag"),
        ("- networks", "want a mapping"),
        ("", "want a mapping"),
        ("networks: {\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_network_lists_is_refused(content: str, message: str) -> None:
    assert any(message in fault for fault in faults_of(content))


def test_all_faults_are_reported_at_once() -> None:
    found = faults_of('networks:\n  office: ["10.0.0.1/8", "10.0.0.0/8", "10.1"]\n  "a b": ["192.0.2.1"]\nother: 1\n')
    assert [fault.split(": ")[0] for fault in found] == [
        "networks.yaml:2:12", "networks.yaml:2:40", "networks.yaml:3:10", "networks.yaml:3:11", "networks.yaml:4:8",
    ]  # fmt: skip


def test_more_lists_than_a_record_can_name_are_refused() -> None:
    lists = "".join(f"  n{number}: []\n" for number in range(LISTS_MAX + 1))
    assert f"got {LISTS_MAX + 1} lists, want at most {LISTS_MAX}" in faults_of(f"networks:\n{lists}")[0]


@given(st.text() | st.text(alphabet="0123456789abcdef:./", max_size=30))
def test_any_text_is_a_prefix_that_holds_its_own_address_or_malformed(text: str) -> None:
    try:
        network = parse_prefix(text)
    except Malformed:
        return
    assert ip_network(text, strict=True) == network
