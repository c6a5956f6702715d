# SPDX-License-Identifier: Apache-2.0
"""Key sets: rows 14, 17 and 77 to 82 of the project's corpus of hostile inputs, and the plain cases."""

import json
from collections.abc import Mapping

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import Malformed
from iap_authz.facts.identity import establish_identity
from iap_authz.facts.keyset import JWKS_MAX_BYTES, KeySet, parse_jwks
from iap_authz.facts.signature import CURVES, Algorithm
from iap_authz.model.reason import Reason
from tests.fakes.tokens import (
    ABSENT,
    ES,
    NOW,
    RS,
    b64,
    bearer,
    ec_key,
    forge,
    hmac_signer,
    issuer,
    jwk,
    jwks,
    key_set,
    problem_of,
    rsa_key,
    uint,
)


def one(**members: object) -> dict[str, object]:
    return jwk(rsa_key("one"), kid="one", **members)


def short(**members: object) -> dict[str, object]:
    return jwk(ec_key("one"), kid="short", **members)


def octets(k: str = "AAAA") -> dict[str, object]:
    return {"kty": "oct", "k": k, "kid": "secret"}


def refusal(keys: KeySet, token: str) -> Reason | None:
    """Why an issuer with these RSA keys refuses `token`; None if it does not."""
    established = establish_identity(bearer(token), [issuer(keys)], now=NOW)
    if established.identity.state == facts_pb2.PRESENT:
        return None
    return problem_of(established)


def test_a_plain_set() -> None:
    keys = key_set(one(use="sig", alg="RS256"), short(key_ops=["verify"]), jwk(ec_key("long", "P-384")))
    assert [(key.kid, key.public.kind) for key in keys.keys] == [
        ("one", "RSA-2048"),
        ("short", "P-256"),
        (None, "P-384"),
    ]
    assert [sorted(key.algorithms) for key in keys.keys] == [["RS256"], ["ES256"], ["ES384"]]
    assert keys.problems == ()
    assert dict(keys.by_kid) == {"one": keys.keys[0], "short": keys.keys[1]}
    assert key_set(one()).keys[0].algorithms == RS


def test_members_that_are_not_read_do_not_matter() -> None:
    assert len(key_set(one(x5c=["AAAA"], x5u="https://evil.example", x5t=1, ext=True, nbf=1e5)).keys) == 1


WHOLE: Mapping[str, bytes] = {
    "empty": b"",
    "not-json": b"{",
    "list": b"[]",
    "null": b"null",
    "no-keys": b"{}",
    "keys-object": b'{"keys": {}}',
    "keys-null": b'{"keys": null}',
    "keys-twice": b'{"keys": [], "keys": []}',
    "kid-twice-in-a-key": b'{"keys": [{"kty": "RSA", "kid": "a", "kid": "b"}]}',
    "kid-twice-escaped": b'{"keys": [{"kid": "a", "\\u006bid": "b"}]}',
    "deep": b'{"keys": [' + b"[" * 5000 + b"]" * 5000 + b"]}",
    "nan": b'{"keys": [], "x": NaN}',
    "long-number": b'{"keys": [], "x": ' + b"1" * 5000 + b"}",
    "nul": b'{"keys": [{"kid": "a\\u0000"}]}',
    "surrogate": b'{"keys": [{"kid": "\\ud800"}]}',
    "not-utf8": b'{"keys": [], "x": "\xff"}',
    "html": b"<!doctype html><title>Sign in</title>",
    "too-large": b'{"keys": []}' + b" " * JWKS_MAX_BYTES,
    "too-many": json.dumps({"keys": [{}] * 101}).encode(),
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=list(WHOLE))
def test_a_set_that_cannot_be_read_one_way_is_refused_whole(content: bytes) -> None:
    with pytest.raises(Malformed):
        parse_jwks(content)


def test_an_empty_set_is_a_set() -> None:
    assert parse_jwks(b'{"keys": []}') == KeySet(keys=())


def test_the_bounds_are_inclusive() -> None:
    content = jwks(*[one()] * 100)
    assert len(parse_jwks(content + b" " * (JWKS_MAX_BYTES - len(content))).keys) == 1


def numbers() -> tuple[int, int]:
    public = rsa_key("one").public_key().public_numbers()
    return public.n, public.e


def y_of(name: str) -> int:
    return ec_key(name).public_key().public_numbers().y


SKIPPED: list[tuple[str, object, str]] = [
    ("14-exponent-0", one(e="AA"), "leading zero"),
    *[(f"14-exponent-{e}", one(e=uint(e)), "exponent")
      for e in (1, 2, 3, 17, 65535, 65536, 65538, 2**32, 2**32 + 1, 2**64 + 1, 2**2047 + 1)],
    ("14-modulus-1024", jwk(rsa_key("weak", 1024), kid="weak"), "1024 bits"),
    ("14-modulus-2047", one(n=uint(2**2046 + 1)), "2047 bits"),
    ("14-modulus-huge", one(n=uint(2**8192 + 1)), "8193 bits"),
    ("14-modulus-even", one(n=uint(numbers()[0] + 1)), "even"),
    ("14-modulus-0", one(n=""), "empty"),
    ("14-modulus-leading-zero", one(n=b64(b"\0" + numbers()[0].to_bytes(256, "big"))), "leading zero"),
    ("54-modulus-padded", one(n=uint(numbers()[0]) + "=="), "base64url"),
    ("54-modulus-newline", one(n=uint(numbers()[0]) + "\n"), "base64url"),
    ("54-modulus-number", one(n=5), "no text in n"),
    ("54-modulus-absent", one(n=ABSENT), "no text in n"),
    ("54-exponent-number", one(e=65537), "no text in e"),
    ("17-p521", jwk(ec_key("P-521", "P-521"), kid="p521"), "curve"),
    ("18-secp256k1", jwk(ec_key("secp256k1", "secp256k1"), kid="k1"), "curve"),
    ("21-ed25519", {"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(32)), "kid": "ed"}, "key type"),
    ("17-curve-absent", short(crv=ABSENT), "curve"),
    ("17-curve-list", short(crv=["P-256"]), "curve"),
    ("17-curve-other-case", short(crv="p-256"), "curve"),
    ("17-wrong-curve", short(crv="P-384"), "bytes in x"),
    ("17-off-the-curve", short(y=b64((y_of("one") ^ 1).to_bytes(32, "big"))), "not on P-256"),
    ("17-infinity", short(x=b64(bytes(32)), y=b64(bytes(32))), "not on P-256"),
    ("17-not-reduced", short(x=b64(b"\xff" * 32)), "not on P-256"),
    ("17-short-coordinate", short(x=b64(bytes(31))), "bytes in x"),
    ("17-long-coordinate", short(y=b64(b"\0" + y_of("one").to_bytes(32, "big"))), "bytes in y"),
    ("78-unknown-kty", {"kty": "XYZ", "kid": "x"}, "key type"),
    ("78-kty-absent", one(kty=ABSENT), "key type"),
    ("78-kty-number", one(kty=1), "key type"),
    ("78-kty-other-case", one(kty="rsa"), "key type"),
    ("78-not-an-object", "key", "not an object"),
    ("78-null", None, "not an object"),
    ("80-oct", octets(), "secret key material"),
    ("80-oct-empty", octets(""), "secret key material"),
    ("80-rsa-with-k", one(k="AAAA"), "secret key material"),
    ("81-use-enc", one(use="enc"), "use"),
    ("81-use-other-case", one(use="SIG"), "use"),
    ("81-use-null", one(use=None), "use"),
    ("81-use-list", one(use=["sig"]), "use"),
    ("81-key-ops-encrypt", one(key_ops=["encrypt"]), "key_ops"),
    ("81-key-ops-sign", one(key_ops=["sign"]), "key_ops"),
    ("81-key-ops-empty", one(key_ops=[]), "key_ops"),
    ("81-key-ops-text", one(key_ops="verify"), "key_ops"),
    ("81-key-ops-number", one(key_ops=["verify", 1]), "key_ops"),
    ("81-key-ops-twice", one(key_ops=["verify", "verify"]), "key_ops"),
    ("81-alg-pss", one(alg="PS256"), "algorithm"),
    ("81-alg-encryption", one(alg="RSA-OAEP"), "algorithm"),
    ("81-alg-hmac", one(alg="HS256"), "algorithm"),
    ("81-alg-of-the-other-family", one(alg="ES256"), "algorithm"),
    ("81-alg-of-the-other-curve", short(alg="ES384"), "algorithm"),
    ("81-alg-null", one(alg=None), "alg"),
    ("81-alg-list", one(alg=["RS256"]), "alg"),
    ("82-rsa-d", one(d="AAAA"), "must be replaced"),
    ("82-rsa-prime-only", one(p="AAAA"), "must be replaced"),
    ("82-ec-d", short(d="AAAA"), "must be replaced"),
    ("82-d-null", one(d=None), "must be replaced"),
    ("kid-number", one() | {"kid": 1}, "kid"),
    ("kid-empty", one() | {"kid": ""}, "kid"),
    ("kid-long", one() | {"kid": "k" * 257}, "kid"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "bad", "why"), SKIPPED, ids=[case[0] for case in SKIPPED])
def test_a_bad_key_is_left_out_and_its_neighbours_work(row: str, bad: object, why: str) -> None:
    keys = key_set(bad, jwk(rsa_key("two"), kid="two"), bad)
    assert [key.kid for key in keys.keys] == ["two"], row
    assert len(keys.problems) == 2
    assert all(why in problem for problem in keys.problems)
    assert keys.problems[1].startswith("key 2")
    assert refusal(keys, forge(key=rsa_key("two"), header={"kid": "two"})) is None


def test_problems_hold_no_key_material() -> None:
    secret = b64(b"a secret that is 32 bytes long..")
    problems = " ".join(key_set(octets(secret), one(d=secret), short(d=secret), one(e=secret)).problems)
    assert secret not in problems
    assert "(kid 'secret')" in problems


class TestDuplicates:
    """Row 77."""

    def test_77_two_keys_of_one_kid_name_neither(self) -> None:
        keys = key_set(one(), jwk(rsa_key("two"), kid="one"), jwk(rsa_key("three"), kid="three"))
        assert keys.ambiguous == {"one"}
        assert set(keys.by_kid) == {"three"}
        assert "names neither" in keys.problems[0]
        for signer in ("one", "two"):
            assert refusal(keys, forge(key=rsa_key(signer))) is Reason.AMBIGUOUS_KEY
        assert refusal(keys, forge(key=rsa_key("three"), header={"kid": "three"})) is None

    def test_77_two_types_of_one_kid_name_neither(self) -> None:
        keys = key_set(one(), jwk(ec_key("one"), kid="one"))
        assert keys.ambiguous == {"one"}
        assert refusal(keys, forge()) is Reason.AMBIGUOUS_KEY

    def test_77_one_key_listed_for_several_algorithms_is_one_key(self) -> None:
        keys = key_set(one(alg="RS256"), one(alg="RS512"))
        assert [key.algorithms for key in keys.keys] == [{Algorithm.RS256, Algorithm.RS512}]
        assert keys.ambiguous == frozenset()
        assert refusal(keys, forge(alg="RS512")) is None
        assert refusal(keys, forge(alg="RS384")) is Reason.ALG_KEY_MISMATCH

    def test_77_a_key_that_cannot_verify_does_not_make_a_kid_ambiguous(self) -> None:
        keys = key_set(jwk(rsa_key("two"), kid="one", use="enc"), one())
        assert keys.ambiguous == frozenset()
        assert keys.unfit == frozenset()
        assert refusal(keys, forge()) is None


def test_78_a_mixed_set_serves_each_family() -> None:
    keys = key_set(
        octets(), {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "ed"}, one(), short(), {"kty": "new"}, 7
    )
    assert set(keys.by_kid) == {"one", "short"}
    assert len(keys.problems) == 4
    assert refusal(keys, forge()) is None
    token = forge(key=ec_key("one"), alg="ES256", header={"kid": "short"})
    established = establish_identity(bearer(token), [issuer(keys, algorithms=ES)], now=NOW)
    assert established.identity.state == facts_pb2.PRESENT


def test_80_a_published_secret_verifies_nothing() -> None:
    keys = key_set(octets(), one())
    assert refusal(keys, forge(header={"kid": "secret"})) is Reason.UNKNOWN_KID
    hmac = forge(header={"alg": "HS256", "kid": "secret"}, sign_it=hmac_signer(bytes(3)))
    assert refusal(keys, hmac) is Reason.BAD_ALG
    assert refusal(keys, forge()) is None


@pytest.mark.parametrize(
    "members",
    [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "RS384"}, {"alg": "PS256"}],
    ids=["81-use", "81-key-ops", "81-alg", "81-alg-unknown"],
)
def test_81_a_key_for_another_use_is_a_mismatch_and_not_unknown(members: dict[str, object]) -> None:
    """Fetching the keys again would not help."""
    keys = key_set(one(**members), jwk(rsa_key("two"), kid="two"))
    assert refusal(keys, forge()) is Reason.ALG_KEY_MISMATCH


def test_82_a_leaked_key_is_not_used_even_for_its_public_half() -> None:
    keys = key_set(one(d="AAAA"), jwk(rsa_key("two"), kid="two"))
    assert refusal(keys, forge()) is Reason.UNKNOWN_KID


def test_a_set_without_a_usable_key_is_no_keys() -> None:
    for keys in (None, key_set(), key_set(octets())):
        established = establish_identity(bearer(forge()), [issuer(keys)], now=NOW)
        assert established.identity.state == facts_pb2.ERROR
        assert problem_of(established) is Reason.NO_KEYS


def test_the_orders_of_the_curves_are_those_of_their_groups() -> None:
    """SEC 2: the order is prime and n * G is the point at infinity, so (n - 1) * G is the mirror image of G."""
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 -- only this test computes with points

    for curve in CURVES.values():
        base = ec.derive_private_key(1, curve.curve).public_key().public_numbers()
        mirror = ec.derive_private_key(curve.order - 1, curve.curve).public_key().public_numbers()
        assert mirror.x == base.x
        assert mirror.y != base.y
