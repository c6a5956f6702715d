# SPDX-License-Identifier: Apache-2.0
"""The predicate of a search, field by field, and the questions that are refused."""

from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from iap_authz._pb.iap.audit.v1 import log_pb2
from iap_authz.errors import Malformed
from iap_authz.model.reason import Reason, Verdict
from iap_authz.records.record import parse_record, render_time
from iap_authz.trail.match import NAME_MAX_BYTES, PERSONAL_MAX_BYTES, VALUES_MAX, body_of, check_query, matches
from tests.fakes.clock import START
from tests.fakes.trail import DIGESTS, WRITERS, decision_leaf, heartbeat_leaf, newer_leaf

Query = log_pb2.SearchRecordsRequest
DECISION = parse_record(decision_leaf(3, verdict=Verdict.DENY, reason=Reason.NO_ROUTE))
HEARTBEAT = parse_record(heartbeat_leaf(4))


def between(begin: Timestamp | None, end: Timestamp | None) -> Query:
    query = Query(to=end)
    if begin is not None:
        getattr(query, "from").CopyFrom(begin)
    return query


def stamp(microseconds: int, *, nanos: int = 0) -> Timestamp:
    time = render_time(START + timedelta(microseconds=microseconds))
    time.nanos += nanos
    return time


FITTING = {
    "nothing": Query(),
    "verdicts": Query(verdicts=[Verdict.ALLOW, Verdict.DENY]),
    "reasons": Query(reasons=[Reason.NO_ROUTE]),
    "rule": Query(rule="engineers"),
    "route": Query(route="orders"),
    "country": Query(country="DE"),
    "policy_digest": Query(policy_digest=DIGESTS[1]),
    "writer": Query(writer=WRITERS[0]),
    "bodies": Query(bodies=["alert", "decision"]),
    "from": between(stamp(0), None),
    "to": between(None, stamp(1)),
    "pages": Query(page_size=7, page_token="x", newest_first=True, with_evidence=True),
    "all": Query(verdicts=[Verdict.DENY], rule="engineers", writer=WRITERS[0], bodies=["decision"]),
}

UNFITTING = {
    "verdicts": Query(verdicts=[Verdict.ALLOW]),
    "reasons": Query(reasons=[Reason.ALLOWED]),
    "rule": Query(rule="Engineers"),
    "route": Query(route="order"),
    "country": Query(country="FR"),
    "policy_digest": Query(policy_digest=DIGESTS[2]),
    "writer": Query(writer=WRITERS[1]),
    "bodies": Query(bodies=["heartbeat"]),
    "from": between(stamp(1), None),
    "to": between(None, stamp(0)),
    "one of two": Query(rule="engineers", route="wiki"),
}


@pytest.mark.parametrize("name", FITTING)
def test_a_record_that_fits(name: str) -> None:
    check_query(FITTING[name])
    assert matches(FITTING[name], DECISION, None)


@pytest.mark.parametrize("name", UNFITTING)
def test_a_record_that_does_not(name: str) -> None:
    check_query(UNFITTING[name])
    assert not matches(UNFITTING[name], DECISION, None)


def test_only_decisions_have_what_decisions_have() -> None:
    for name in ("verdicts", "reasons", "rule", "route", "country", "policy_digest"):
        assert not matches(FITTING[name], HEARTBEAT, None)
    assert not matches(Query(verdicts=[0]), HEARTBEAT, None)
    for name in ("nothing", "writer", "from", "to", "pages"):
        assert matches(FITTING[name], HEARTBEAT, None)


def test_a_leaf_that_is_no_record_has_an_unknown_body_and_nothing_else() -> None:
    assert body_of(None) == body_of(parse_record(newer_leaf(1))) == "unknown"
    assert matches(Query(), None, None)
    assert matches(Query(bodies=["decision", "unknown"], newest_first=True), None, None)
    assert matches(Query(bodies=["unknown"]), parse_record(newer_leaf(1)), None)
    assert not matches(Query(bodies=["unknown"]), DECISION, None)
    for name in set(FITTING) - {"nothing", "pages"}:
        assert not matches(FITTING[name], None, None)
    assert not matches(Query(bodies=["unknown"], writer=WRITERS[0]), None, None)


def test_times_are_compared_in_whole_microseconds() -> None:
    """What is below a microsecond is cut, of the record's time and of the search's: an index keeps no more."""
    assert matches(between(stamp(0, nanos=999), None), DECISION, None)
    assert not matches(between(None, stamp(0, nanos=999)), DECISION, None)


def test_an_instant_holds_nothing() -> None:
    check_query(between(stamp(0), stamp(0)))
    assert not matches(between(stamp(0), stamp(0)), DECISION, None)


REFUSED = {
    "long subject": (Query(subject="é" * PERSONAL_MAX_BYTES), f"got a subject of {PERSONAL_MAX_BYTES * 2} bytes"),
    "large network": (Query(address_or_network="10.0.0.0/7"), "want a network of IPv4 of /8 or longer"),
    "no host": (Query(host="a b"), "host"),
    "path with a query": (Query(path_prefix="/?a"), "want a path without a query"),
    "asn": (Query(asn=-1), "got the number -1 of an autonomous system"),
    "writer": (Query(writer=bytes(31)), "got a writer of 31 bytes, want 32"),
    "policy digest": (Query(policy_digest=bytes(33)), "got a policy_digest of 33 bytes, want 32"),
    "long rule": (Query(rule="é" * NAME_MAX_BYTES), f"got a rule of {NAME_MAX_BYTES * 2} bytes"),
    "body": (Query(bodies=["Decision"]), "got the body 'Decision'"),
    "282 end before begin": (between(stamp(1), stamp(0)), "want an end that is not before"),
    "282 no time": (between(Timestamp(seconds=1 << 62), None), "want a year from 1 to 9999"),
    "282 no nanoseconds": (between(None, Timestamp(nanos=-1)), "want a year from 1 to 9999"),
    "284 verdicts": (Query(verdicts=[1] * (VALUES_MAX + 1)), f"got {VALUES_MAX + 1} values of verdicts"),
    "284 bodies": (Query(bodies=["decision"] * (VALUES_MAX + 1)), f"got {VALUES_MAX + 1} values of bodies"),
    "a newer field": (Query.FromString(b"\xd2\x05\x00"), "fields of a newer version"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_search_that_is_refused(name: str) -> None:
    query, message = REFUSED[name]
    with pytest.raises(Malformed) as caught:
        check_query(query)
    assert message in str(caught.value)


def test_every_field_is_known_to_the_predicate() -> None:
    """A field that is added to the message must be refused or asked for; `matches` of it would fail here."""
    for field in Query.DESCRIPTOR.fields:
        query = Query()
        if field.message_type is not None:
            getattr(query, field.name).CopyFrom(stamp(0))
        elif field.is_repeated:
            getattr(query, field.name).append("decision" if field.name == "bodies" else 1)
        else:
            values = {"writer": WRITERS[0], "policy_digest": DIGESTS[1], "newest_first": True, "with_evidence": True}
            setattr(query, field.name, values.get(field.name, 1 if field.name in ("asn", "page_size") else "x"))
        try:
            check_query(query)
        except Malformed:
            continue
        matches(query, DECISION, None)
