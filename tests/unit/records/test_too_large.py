# SPDX-License-Identifier: Apache-2.0
"""What a refusal keeps of facts that do not fit: whole fields, and the names of the others."""

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.records.too_large import KEPT_MAX_BYTES, keep_what_fits


def facts_with(path_bytes: int, groups: int) -> facts_pb2.Facts:
    facts = facts_pb2.Facts()
    facts.identity.state = facts_pb2.PRESENT
    facts.identity.age.seconds = 9
    facts.identity.subject = "alice"
    facts.identity.groups.extend(f"group-{number}" for number in range(groups))
    facts.request.state = facts_pb2.PRESENT
    facts.request.path = "/" * path_bytes
    facts.now.seconds = 1_700_000_000
    return facts


def test_facts_that_fit_are_kept_whole() -> None:
    facts = facts_with(10, 3)
    kept = keep_what_fits(facts)
    assert (kept.facts, kept.left_out) == (facts, ())


def test_the_largest_field_goes_first_whole_and_by_name() -> None:
    facts = facts_with(100_000, 3)
    kept = keep_what_fits(facts)
    assert kept.left_out == ("request.path",)
    assert not kept.facts.request.HasField("path")
    assert kept.facts.request.state == facts_pb2.PRESENT
    assert kept.facts.identity == facts.identity


def test_fields_go_until_the_rest_fits() -> None:
    kept = keep_what_fits(facts_with(50_000, 9_000))
    assert kept.left_out == ("identity.groups", "request.path")
    assert kept.facts.ByteSize() <= KEPT_MAX_BYTES
    assert kept.facts.identity.subject == "alice"
    assert kept.facts.now.seconds == 1_700_000_000


def test_the_facts_that_were_given_are_not_changed() -> None:
    facts = facts_with(100_000, 3)
    keep_what_fits(facts)
    assert len(facts.request.path) == 100_000


def test_states_ages_and_the_time_stay_whatever_the_limit() -> None:
    kept = keep_what_fits(facts_with(100, 3), max_bytes=0)
    assert kept.left_out == ("identity.groups", "identity.subject", "request.path")
    assert (kept.facts.identity.age.seconds, kept.facts.now.seconds) == (9, 1_700_000_000)
