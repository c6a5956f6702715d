# SPDX-License-Identifier: Apache-2.0
"""Revocation: who is refused, since when and until when, and that a list that is not there clears nobody."""

from datetime import timedelta

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Invalid, InvalidCredential, SourceUnavailable
from iap_authz.facts.identity import establish_identity
from iap_authz.facts.revocation import (
    Kind,
    Revocation,
    RevocationList,
    check_not_revoked,
    check_succession,
    judge_revocation,
)
from iap_authz.model.reason import Reason
from tests.fakes.api_keys import KEY, KEY_ID, access, shows_key
from tests.fakes.tokens import ABSENT, ISSUER, NOW, OTHER_ISSUER, bearer, claims, forge, rsa_issuer

ISSUED = NOW - timedelta(seconds=60)
"""What `claims` says."""

TICK = timedelta(seconds=1)


def token_identity(**changed: object) -> facts_pb2.Identity:
    """The identity of a good token with a session and an id."""
    token = forge(claims(**{"sid": "session-1", "jti": "token-1", **changed}))
    return establish_identity(bearer(token), [rsa_issuer()], now=NOW).identity


def entry(kind: Kind, value: str, **fields: object) -> Revocation:
    return Revocation(kind=kind, value=value, **{"issuer": ISSUER, **fields})  # type: ignore[arg-type]


def listed(*entries: Revocation) -> RevocationList:
    return RevocationList(entries=entries)


def judged(identity: facts_pb2.Identity, *entries: Revocation, later: timedelta = timedelta(0)) -> facts_pb2.Identity:
    judge_revocation(identity, listed(*entries), now=NOW + later)
    return identity


def is_revoked(identity: facts_pb2.Identity) -> bool:
    return (identity.state, identity.problem) == (facts_pb2.INVALID, Reason.TOKEN_REVOKED)


NAMES = ((Kind.SUBJECT, "ada"), (Kind.SESSION, "session-1"), (Kind.TOKEN_ID, "token-1"), (Kind.SIGNING_KEY, "one"))


@pytest.mark.parametrize(("kind", "value"), NAMES)
def test_each_name_of_a_token_revokes_it(kind: Kind, value: str) -> None:
    assert is_revoked(judged(token_identity(), entry(kind, value)))


@pytest.mark.parametrize(("kind", "value"), NAMES)
@pytest.mark.parametrize("other", ["{}x", "x{}", "{} ", "\u00e9{}", "{}\u200b"], ids=ascii)
def test_another_name_does_not(kind: Kind, value: str, other: str) -> None:
    assert judged(token_identity(), entry(kind, other.format(value))) == token_identity()
    assert judged(token_identity(), entry(kind, value.upper())) == token_identity()


@pytest.mark.parametrize(("kind", "value"), NAMES)
def test_another_issuer_or_kind_does_not(kind: Kind, value: str) -> None:
    assert judged(token_identity(), entry(kind, value, issuer=OTHER_ISSUER)) == token_identity()
    others = [entry(each, value) for each in (Kind.SUBJECT, Kind.SESSION, Kind.TOKEN_ID, Kind.SIGNING_KEY)]
    assert judged(token_identity(), *(each for each in others if each.kind is not kind)) == token_identity()


def test_what_is_refused_keeps_its_hash_and_nothing_else() -> None:
    whole = token_identity()
    want = facts_pb2.Identity(state=facts_pb2.INVALID, token_sha256=whole.token_sha256)
    want.problem = Reason.TOKEN_REVOKED.value
    assert judged(whole, entry(Kind.SUBJECT, "ada")) == want


def test_log_out_everywhere_is_for_tokens_issued_before() -> None:
    for kind, value in ((Kind.SUBJECT, "ada"), (Kind.SESSION, "session-1")):
        assert is_revoked(judged(token_identity(), entry(kind, value, before=ISSUED + TICK)))
        assert not is_revoked(judged(token_identity(), entry(kind, value, before=ISSUED)))


def test_a_token_that_does_not_say_when_it_was_issued_was_issued_before() -> None:
    assert is_revoked(judged(token_identity(iat=ABSENT), entry(Kind.SUBJECT, "ada", before=NOW - timedelta(days=9999))))


def test_until_is_the_first_instant_that_is_not_revoked() -> None:
    held = entry(Kind.TOKEN_ID, "token-1", until=NOW + TICK)
    assert is_revoked(judged(token_identity(), held))
    assert not is_revoked(judged(token_identity(), held, later=TICK))


def test_two_entries_of_one_name_both_count_in_any_order() -> None:
    old = entry(Kind.SUBJECT, "ada", before=ISSUED + TICK, until=NOW + TICK)
    for others in (
        entry(Kind.SUBJECT, "ada", before=ISSUED - TICK),
        entry(Kind.SUBJECT, "ada", before=ISSUED),
        entry(Kind.SUBJECT, "ada", before=ISSUED + TICK, until=NOW),
    ):
        assert is_revoked(judged(token_identity(), old, others))
        assert is_revoked(judged(token_identity(), others, old))
    ever = entry(Kind.SUBJECT, "ada")
    assert listed(old, ever, old).find((Kind.SUBJECT, ISSUER, "ada")) == (ever,)


def test_many_entries_of_one_name_are_one() -> None:
    many = [entry(Kind.SUBJECT, "ada", before=NOW + TICK * n, until=NOW + TICK * (n + 9)) for n in range(2_000)]
    assert listed(*many).find((Kind.SUBJECT, ISSUER, "ada")) == (many[-1],)


def machine_identity() -> facts_pb2.Identity:
    return establish_identity(shows_key(KEY), [], api_keys=access(), now=NOW).identity


def test_an_api_key_is_revoked_by_its_id_alone() -> None:
    revoked = Revocation(kind=Kind.API_KEY, value=KEY_ID)
    assert is_revoked(judged(machine_identity(), revoked))
    assert not is_revoked(judged(machine_identity(), Revocation(kind=Kind.API_KEY, value=KEY_ID[::-1])))
    assert not is_revoked(
        judged(machine_identity(), entry(Kind.TOKEN_ID, KEY_ID), entry(Kind.SUBJECT, "nightly-export"))
    )
    assert not is_revoked(judged(token_identity(jti=KEY_ID), revoked))


def test_without_a_list_nobody_is_known_and_nobody_is_cleared() -> None:
    for identity in (token_identity(), machine_identity()):
        shown = identity.token_sha256
        judge_revocation(identity, None, now=NOW)
        assert (identity.state, identity.problem) == (facts_pb2.ERROR, Reason.SOURCE_ERROR)
        assert {field.name for field, _ in identity.ListFields()} == {"state", "problem", "token_sha256"}
        assert identity.token_sha256 == shown


@pytest.mark.parametrize("state", [facts_pb2.ABSENT, facts_pb2.INVALID, facts_pb2.ERROR])
@pytest.mark.parametrize("revocations", [None, RevocationList(entries=(entry(Kind.SUBJECT, "ada"),))])
def test_what_is_not_present_stays_as_it_is(state: facts_pb2.State, revocations: RevocationList | None) -> None:
    identity = facts_pb2.Identity(state=state, subject="ada", issuer=ISSUER)
    before = identity.SerializeToString()
    judge_revocation(identity, revocations, now=NOW)
    assert identity.SerializeToString() == before


def test_the_check_raises() -> None:
    with pytest.raises(InvalidCredential, match="its sid is revoked"):
        check_not_revoked(token_identity(), listed(entry(Kind.SESSION, "session-1")), now=NOW)
    with pytest.raises(SourceUnavailable):
        check_not_revoked(token_identity(), None, now=NOW)
    check_not_revoked(token_identity(), RevocationList(), now=NOW)


def test_an_older_list_must_not_follow() -> None:
    for before, after in ((7, 7), (7, 8)):
        check_succession(RevocationList(revision=after), RevocationList(revision=before))
    check_succession(RevocationList(revision=0), None)
    with pytest.raises(Invalid, match="got revision 6, want at least 7"):
        check_succession(RevocationList(revision=6), RevocationList(revision=7))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": Kind.SUBJECT, "value": "ada"},
        {"kind": Kind.SUBJECT, "value": "", "issuer": ISSUER},
        {"kind": Kind.API_KEY, "value": KEY_ID, "issuer": ISSUER},
        {"kind": Kind.SIGNING_KEY, "value": "one", "issuer": ISSUER, "before": NOW},
        {"kind": Kind.TOKEN_ID, "value": "t", "issuer": ISSUER, "before": NOW},
    ],
    ids=str,
)
def test_an_entry_that_means_nothing_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        Revocation(**fields)  # type: ignore[arg-type]
