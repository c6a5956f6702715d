# SPDX-License-Identifier: Apache-2.0
"""What an assertion says, to whom and of what; and that others than us can check it."""

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jose import jwt

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.facts.assertion import (
    ASSERTION_MAX_CHARS,
    LIFE_SECONDS,
    AssertionTooLarge,
    Statement,
    published_key,
    render_assertion,
    render_key_set,
)
from iap_authz.facts.identity import establish_identity
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.keyset import parse_jwks
from iap_authz.facts.signature import Algorithm
from tests.fakes.tokens import NOW, NOW_S, SKEW, bearer, ec_key
from tests.unit.policy.building import put_state

KEY = ec_key("assertion")
POINT = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
PUBLISHED = published_key(POINT)
ISSUER = "https://iap.example.com"


def sign(message: bytes) -> bytes:
    r, s = decode_dss_signature(KEY.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def known() -> facts_pb2.Facts:
    facts = facts_pb2.Facts()
    facts.identity.state = facts.device.state = facts.request.state = facts_pb2.PRESENT
    facts.identity.subject, facts.identity.issuer = "alice", "https://login.example.com/"
    facts.identity.groups.extend(["eng", "admin"])
    facts.device.id = "laptop-7"
    facts.request.method, facts.request.host, facts.request.path = "GET", "orders.example.com", "/api/orders%20x"
    return facts


def statement(**changes: Any) -> Statement:
    said: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": "orders",
        "route": "api",
        "audit_id": "ab" * 32,
        "token_id": "one",
        "issued_at": NOW_S,
        "is_bound": True,
    }
    return Statement(**(said | changes))


def made(facts: facts_pb2.Facts | None = None, **changes: Any) -> str:
    return render_assertion(facts or known(), statement(**changes), key=PUBLISHED, sign=sign)


def part(assertion: str, number: int) -> Any:
    text = assertion.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def claims_of(facts: facts_pb2.Facts | None = None, **changes: Any) -> Any:
    return part(made(facts, **changes), 1)


def digest(target: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(target.encode()).digest()).rstrip(b"=").decode()


def test_everything_that_is_known_is_said() -> None:
    assertion = made()
    assert part(assertion, 0) == {"alg": "ES256", "kid": PUBLISHED.kid, "typ": "JWT"}
    assert part(assertion, 1) == {
        "iss": ISSUER,
        "aud": "orders",
        "iat": NOW_S,
        "exp": NOW_S + 60,
        "jti": "one",
        "audit_id": "ab" * 32,
        "route": "api",
        "sub": "alice",
        "identity_issuer": "https://login.example.com/",
        "groups": ["eng", "admin"],
        "device_id": "laptop-7",
        "method": "GET",
        "host": "orders.example.com",
        "target_sha256": digest("/api/orders%20x"),
    }


def test_the_query_is_a_part_of_the_target() -> None:
    facts = known()
    facts.request.query = "id=1"
    assert claims_of(facts)["target_sha256"] == digest("/api/orders%20x?id=1")


def test_without_binding_nothing_is_said_of_the_request() -> None:
    assert claims_of().keys() - claims_of(is_bound=False).keys() == {"method", "host", "target_sha256"}


PERSONAL = {"sub", "identity_issuer", "groups"}


@pytest.mark.parametrize("state", ["ABSENT", "STALE", "ERROR", "INVALID", "STATE_UNSPECIFIED"])
def test_what_is_not_known_has_no_claim(state: str) -> None:
    facts = known()
    put_state(facts, "identity", facts_pb2.State.Value(state))
    assert claims_of().keys() - claims_of(facts).keys() == PERSONAL
    facts = known()
    put_state(facts, "device", facts_pb2.State.Value(state))
    assert claims_of().keys() - claims_of(facts).keys() == {"device_id"}


def test_no_groups_and_unknown_groups_are_two_things() -> None:
    facts = known()
    del facts.identity.groups[:]
    assert "groups" not in claims_of(facts)
    facts.identity.empty.append("groups")
    assert claims_of(facts)["groups"] == []


def test_row_140_a_list_that_does_not_fit_is_left_out_whole_and_that_is_said() -> None:
    facts = known()
    facts.identity.groups.extend(f"group-{number:034}" for number in range(500))
    assert sum(len(group) for group in facts.identity.groups) > 20_000
    assertion = made(facts)
    claims = part(assertion, 1)
    assert ("groups" in claims, claims["groups_omitted"]) == (False, True)
    assert len(assertion) < 1_000
    assert claims["sub"] == "alice"


def test_row_140_the_longest_list_that_fits_is_whole() -> None:
    facts, last = known(), 0
    while "groups_omitted" not in (claims := claims_of(facts)):
        last = len(made(facts))
        assert claims["groups"] == list(facts.identity.groups)
        facts.identity.groups.append('\u00e4\u20ac"g')
    assert ASSERTION_MAX_CHARS - 30 < last <= ASSERTION_MAX_CHARS
    assert len(made(facts)) < ASSERTION_MAX_CHARS


def test_what_does_not_fit_without_the_groups_is_refused() -> None:
    with pytest.raises(AssertionTooLarge, match="without groups"):
        made(audience="a" * 4_000)


def test_a_long_target_makes_no_long_header() -> None:
    facts = known()
    facts.request.path = "/" + "a" * 8_000
    assert len(made(facts)) < 1_000


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(65), bytes(72)])
def test_a_signature_of_another_shape_is_not_sent(signature: bytes) -> None:
    with pytest.raises(ValueError, match="want 64"):
        render_assertion(known(), statement(), key=PUBLISHED, sign=lambda _: signature)


# ---- keys


def test_the_kid_is_the_thumbprint_of_rfc_7638() -> None:
    numbers = KEY.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(each.to_bytes(32, "big")).rstrip(b"=").decode() for each in (numbers.x, numbers.y))
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    assert PUBLISHED.kid == digest(canonical)
    assert json.loads(render_key_set([PUBLISHED])) == {
        "keys": [{"alg": "ES256", "crv": "P-256", "kid": PUBLISHED.kid, "kty": "EC", "use": "sig", "x": x, "y": y}]
    }


@pytest.mark.parametrize("point", [b"", bytes(65), b"\2" + bytes(32), b"\4" + bytes(63)])
def test_a_point_of_another_shape_is_not_published(point: bytes) -> None:
    with pytest.raises(ValueError, match="want 65 that begin with 4"):
        published_key(point)


# ---- others check it


def test_python_jose_accepts_it() -> None:
    claims = jwt.decode(
        made(),
        json.loads(render_key_set([PUBLISHED])),
        algorithms=["ES256"],
        audience="orders",
        issuer=ISSUER,
        options={"verify_exp": False},  # it asks the clock, which is not that of the test
    )
    assert claims["sub"] == "alice"


def strict(audience: str = "orders") -> Issuer:
    return Issuer(
        name="iap",
        issuer=ISSUER,
        audiences=frozenset({audience}),
        algorithms=frozenset({Algorithm.ES256}),
        keys=parse_jwks(render_key_set([PUBLISHED])),
        skew=SKEW,
        max_age=None,
        groups_claim=("groups",),
        claims=("route", "device_id"),
    )


def test_the_strict_profile_accepts_it() -> None:
    identity = establish_identity(bearer(made()), [strict()], now=NOW).identity
    assert (identity.state, identity.subject, list(identity.groups)) == (facts_pb2.PRESENT, "alice", ["eng", "admin"])
    assert dict(identity.claims) == {"route": "api", "device_id": "laptop-7"}
    assert identity.key_id == PUBLISHED.kid


def test_the_strict_profile_refuses_it_elsewhere_and_later() -> None:
    assert establish_identity(bearer(made()), [strict("billing")], now=NOW).identity.state == facts_pb2.INVALID
    old = made(issued_at=NOW_S - LIFE_SECONDS - int(SKEW.total_seconds()) - 1)
    assert establish_identity(bearer(old), [strict()], now=NOW).identity.state == facts_pb2.INVALID
