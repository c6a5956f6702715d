# SPDX-License-Identifier: Apache-2.0
"""Index tokens (PROTOCOL rule S9): what they are of, and that they find what the records say."""

import hmac
import pickle

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from iap_authz._pb.iap.audit.v1 import log_pb2, record_pb2
from iap_authz.errors import Malformed
from iap_authz.records.tokens import TokenKey, meets, query_tokens, tokens_of
from iap_authz.trail.match import check_query, matches

KEY = TokenKey.derive(bytes(range(32)), "log.example.com")
Query = log_pb2.SearchRecordsRequest
RECORD = record_pb2.Record(decision=record_pb2.Decision())

ADDRESSES = ["192.0.2.7", "192.0.3.7", "10.9.8.7", "2001:db8::7", "2001:db8:0:1::9", "2001:db9::1", "nonsense", ""]
SEGMENTS = st.lists(st.sampled_from(["api", "orders", "a", "1", "%41"]), max_size=20)


@st.composite
def parts(draw: st.DrawFn) -> record_pb2.PersonalPart:
    part = record_pb2.PersonalPart()
    facts = part.decision.facts
    facts.identity.subject = draw(st.sampled_from(["alice", "bob", ""]))
    facts.device.id = draw(st.sampled_from(["laptop-1", "laptop-2", ""]))
    facts.location.address = draw(st.sampled_from(ADDRESSES))
    facts.location.asn = draw(st.integers(1, 3))
    facts.request.host = draw(st.sampled_from(["a.example.com", "b.example.com"]))
    facts.request.segments.extend(draw(SEGMENTS))
    facts.request.id = draw(st.sampled_from(["r1", "r2"]))
    facts.request.trace_id = draw(st.sampled_from(["0a" * 16, "0b" * 16]))
    return part


@st.composite
def queries(draw: st.DrawFn) -> Query:
    networks = ["192.0.2.0/24", "192.0.2.0/23", "192.0.2.7", "10.0.0.0/8", "10.8.0.0/13", "2001:db8::/32"]
    networks += ["2001:db8::/63", "2001:db8::/64", "2001:db8::/100", "2001:db8::7", "::ffff:192.0.2.0/120"]
    values: dict[str, st.SearchStrategy[object]] = {
        "subject": st.sampled_from(["alice", "bob", "eve"]),
        "device": st.sampled_from(["laptop-1", "laptop-9"]),
        "address_or_network": st.sampled_from(networks),
        "host": st.sampled_from(["a.example.com", "A.example.com", "c.example.com"]),
        "path_prefix": st.sampled_from(["/", "/api", "/api/", "/api/orders", "/a/1" * 9]),
        "asn": st.integers(1, 4),
        "request_id": st.sampled_from(["r1", "r3"]),
        "trace_id": st.sampled_from(["0a" * 16, "0A" * 16, "0c" * 16]),
    }
    names = draw(st.sets(st.sampled_from(sorted(values)), min_size=1, max_size=3))
    return Query(**{name: draw(values[name]) for name in names})  # type: ignore[arg-type]


def coarse(query: Query) -> bool:
    """Whether tokens may find too much: an IPv6 network between /64 and /128, a path of more than 16 segments."""
    return query.address_or_network.endswith("/100") or query.path_prefix.count("/") > 16


@given(queries(), parts())
def test_s9_a_record_has_the_tokens_of_a_search_exactly_if_it_matches(
    query: Query, part: record_pb2.PersonalPart
) -> None:
    check_query(query)
    wanted, has = matches(query, RECORD, part), meets(query_tokens(KEY, query), tokens_of(KEY, part))
    assert has or not wanted, "tokens never find too little"
    assert coarse(query) or has == wanted


def test_s9_a_token_is_that_of_the_specification() -> None:
    secret = HKDFExpand(hashes.SHA256(), 32, b"iap-authz/index/v1" + b"log.example.com").derive(bytes(range(32)))
    want = hmac.digest(secret, b"subject\x00alice", "sha256")[:8]
    assert query_tokens(KEY, Query(subject="alice")) == [frozenset({int.from_bytes(want, "big", signed=True)})]


def test_s9_two_logs_and_two_keys_never_have_the_same_tokens() -> None:
    part = record_pb2.PersonalPart()
    part.decision.facts.identity.subject = "alice"
    others = [TokenKey.derive(bytes(range(32)), "log.example.org"), TokenKey.derive(bytes(32), "log.example.com")]
    assert len({tokens_of(key, part)[0] for key in [KEY, *others]}) == 3


@pytest.mark.parametrize(
    ("network", "tokens"),
    [("10.0.0.0/13", 8), ("10.0.0.0/9", 128), ("10.0.0.0/16", 1), ("10.1.2.3", 1), ("2001:db8::/33", 128)],
)
def test_s9_a_network_between_two_prefixes_asks_for_the_longer_ones(network: str, tokens: int) -> None:
    (asked,) = query_tokens(KEY, Query(address_or_network=network))
    assert len(asked) == tokens


@pytest.mark.parametrize(
    "query",
    [
        Query(address_or_network="10.0.0.0/7"),
        Query(address_or_network="2001:db8::/31"),
        Query(address_or_network="10.0.0.1/24"),
        Query(address_or_network="010.0.0.1"),
        Query(address_or_network="a name"),
        Query(path_prefix="/a?b=1"),
        Query(path_prefix="no slash"),
        Query(asn=-1),
        Query(asn=1 << 32),
        Query(subject="x" * 9_000),
    ],
    ids=lambda query: str(query).strip()[:40],
)
def test_s9_what_no_record_can_have_is_malformed(query: Query) -> None:
    with pytest.raises(Malformed):
        check_query(query)


def test_the_key_shows_nowhere() -> None:
    assert repr(KEY) == "TokenKey(...)"
    with pytest.raises(TypeError, match="memory"):
        pickle.dumps(KEY)
    with pytest.raises(Malformed):
        TokenKey.derive(bytes(31), "log.example.com")
