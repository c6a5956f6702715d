# SPDX-License-Identifier: Apache-2.0
"""Hostile signatures: rows 10 to 20 of the project's corpus of hostile inputs.

The families are those of Project Wycheproof (RSA PKCS#1 1.5 and ECDSA in P1363 form); the vectors are made here, with
keys of the session, because only the private operation can put a wrong padding under a right signature.
"""

import dataclasses
import hashlib
from base64 import urlsafe_b64decode
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.errors import BadSignature
from iap_authz.facts.identity import establish_identity
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.signature import CURVES, Algorithm, check_signature
from iap_authz.model.reason import Reason
from tests.fakes.tokens import (
    NOW,
    b64,
    bearer,
    claims,
    ec_issuer,
    ec_key,
    forge,
    issuer,
    jwk,
    key_set,
    problem_of,
    raw_rsa,
    rsa_issuer,
    rsa_key,
    sign,
)

SIZE = 256
"""Bytes of a 2,048-bit modulus."""

SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""DigestInfo of SHA-256 before the digest (RFC 8017 section 9.2, note 1)."""


def refused_with(token: str, by: Issuer, reason: Reason) -> None:
    established = establish_identity(bearer(token), [by], now=NOW)
    assert established.identity.state == facts_pb2.INVALID
    assert problem_of(established) is reason


def good(by: Issuer, token: str) -> None:
    assert establish_identity(bearer(token), [by], now=NOW).identity.state == facts_pb2.PRESENT


def padded(info: bytes, digest: bytes) -> bytes:
    tail = b"\0" + info + digest
    return b"\0\1" + b"\xff" * (SIZE - 2 - len(tail)) + tail


def the_right_padding(digest: bytes) -> bytes:
    return padded(SHA256_INFO, digest)


def replaced(offset: int, byte: int) -> Callable[[bytes], bytes]:
    """The right padding with one byte changed, counted from the start."""

    def made(digest: bytes) -> bytes:
        right = the_right_padding(digest)
        return right[:offset] + bytes([right[offset] ^ byte]) + right[offset + 1 :]

    return made


def with_info(info: str) -> Callable[[bytes], bytes]:
    return lambda digest: padded(bytes.fromhex(info), digest)


INFO_OFFSET = SIZE - 32 - len(SHA256_INFO)

PADDINGS: dict[str, Callable[[bytes], bytes]] = {
    "no-digest-info": lambda digest: padded(b"", digest),
    "no-null-parameter": with_info("302f300b0609608648016503040201" + "0420"),
    "null-of-one-byte": with_info("3032300e06096086480165030402010501000420"),
    "long-form-outer-length": with_info("308131300d060960864801650304020105000420"),
    "long-form-two-bytes": with_info("30820031300d060960864801650304020105000420"),
    "long-form-inner-length": with_info("303230810d060960864801650304020105000420"),
    "long-form-digest-length": with_info("3032300d06096086480165030402010500048120"),
    "indefinite-length": with_info("3080300d060960864801650304020105000420"),
    "sha1-info": with_info("3021300906052b0e03021a05000414"),
    "sha384-info": with_info("3041300d060960864801650304020205000430"),
    "sha512-256-info": with_info("3031300d060960864801650304020605000420"),
    "digest-of-other-tag": with_info("3031300d060960864801650304020105000320"),
    "set-instead-of-sequence": with_info("3131300d060960864801650304020105000420"),
    "trailing-bytes-in-info": lambda digest: padded(
        bytes.fromhex("3033300d060960864801650304020105000420"), digest + b"\5\0"
    ),
    "trailing-garbage": lambda digest: (
        b"\0\1" + b"\xff" * 8 + b"\0" + SHA256_INFO + digest + b"\x5a" * (SIZE - 11 - 51)
    ),
    "short-padding-garbage-first": lambda digest: (
        b"\0\1" + b"\xff" * 8 + b"\0" + b"\x5a" * (SIZE - 11 - 52) + b"\0" + SHA256_INFO + digest
    ),
    "block-type-2": replaced(1, 0x03),
    "block-type-0": replaced(1, 0x01),
    "padding-not-ff-first": replaced(2, 0x01),
    "padding-not-ff-last": replaced(INFO_OFFSET - 2, 0x80),
    "separator-not-zero": replaced(INFO_OFFSET - 1, 0x01),
    "digest-zero": lambda _: padded(SHA256_INFO, b"\0" * 32),
    "digest-truncated": lambda digest: padded(bytes.fromhex("3030300d06096086480165030402010500041f"), digest[:31]),
    "digest-reversed": lambda digest: padded(SHA256_INFO, digest[::-1]),
    "all-zero": lambda _: b"\0" * SIZE,
    "one": lambda _: b"\0" * (SIZE - 1) + b"\1",
    **{f"info-byte-{offset}-flipped": replaced(INFO_OFFSET + offset, 0x01) for offset in range(len(SHA256_INFO))},
}


def with_padding(padding: Callable[[bytes], bytes]) -> str:
    key = rsa_key("one")
    return forge(sign_it=lambda content: raw_rsa(key, padding(hashlib.sha256(content).digest())))


def test_11_the_right_padding_under_the_bare_private_operation_is_a_signature() -> None:
    """Shows that the cases below fail for their padding and for nothing else."""
    good(rsa_issuer(), with_padding(the_right_padding))


@pytest.mark.parametrize("padding", PADDINGS.values(), ids=[f"11-{name}" for name in PADDINGS])
def test_11_a_modified_padding_is_refused(padding: Callable[[bytes], bytes]) -> None:
    refused_with(with_padding(padding), rsa_issuer(), Reason.BAD_SIGNATURE)
    good(rsa_issuer(), forge())


@pytest.mark.parametrize("alg", ["PS256", "PS384", "PS512"])
def test_10_a_pss_signature_is_no_pkcs1_signature(alg: str) -> None:
    key = rsa_key("one")
    token = forge(alg=f"RS{alg[2:]}", sign_it=lambda content: sign(key, alg, content))
    refused_with(token, rsa_issuer(), Reason.BAD_SIGNATURE)
    refused_with(forge(header={"alg": alg}), rsa_issuer(), Reason.BAD_ALG)


@pytest.mark.parametrize("declared", ["RS384", "RS512"])
def test_10_the_digest_is_the_declared_one(declared: str) -> None:
    key = rsa_key("one")
    token = forge(header={"alg": declared}, sign_it=lambda content: sign(key, "RS256", content))
    refused_with(token, rsa_issuer(), Reason.BAD_SIGNATURE)


def modulus() -> int:
    return rsa_key("one").public_key().public_numbers().n


RSA_SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "zero": lambda _: bytes(SIZE),
    "one": lambda _: (1).to_bytes(SIZE, "big"),
    "n-1": lambda _: (modulus() - 1).to_bytes(SIZE, "big"),
    "n": lambda _: modulus().to_bytes(SIZE, "big"),
    "n+1": lambda _: (modulus() + 1).to_bytes(SIZE, "big"),
    "all-ones": lambda _: b"\xff" * SIZE,
    "not-reduced": lambda right: (int.from_bytes(right, "big") + modulus()).to_bytes(SIZE + 1, "big"),
    "zero-prepended": lambda right: b"\0" + right,
    "zero-appended": lambda right: right + b"\0",
    "truncated": lambda right: right[:-1],
    "first-byte-cut": lambda right: right[1:],
    "negated": lambda right: (modulus() - int.from_bytes(right, "big")).to_bytes(SIZE, "big"),
    "reversed": lambda right: right[::-1],
    "twice": lambda right: right + right,
}


@pytest.mark.parametrize("change", RSA_SIGNATURES.values(), ids=[f"12-{name}" for name in RSA_SIGNATURES])
def test_12_a_number_that_is_not_the_signature_is_refused(change: Callable[[bytes], bytes]) -> None:
    key = rsa_key("one")
    token = forge(sign_it=lambda content: change(sign(key, "RS256", content)))
    refused_with(token, rsa_issuer(), Reason.BAD_SIGNATURE)
    good(rsa_issuer(), forge())


ORDERS = {"ES256": CURVES["P-256"].order, "ES384": CURVES["P-384"].order}
SPECIAL: dict[str, Callable[[int], int]] = {
    "0": lambda _: 0,
    "1": lambda _: 1,
    "n-1": lambda order: order - 1,
    "n": lambda order: order,
}


def curve_key(alg: str) -> tuple[str, ec.EllipticCurvePrivateKey]:
    return ("one", ec_key("one")) if alg == "ES256" else ("long", ec_key("long", "P-384"))


@pytest.mark.parametrize("alg", ORDERS)
@pytest.mark.parametrize("r", SPECIAL)
@pytest.mark.parametrize("s", SPECIAL)
def test_15_special_values_of_r_and_s_are_refused(alg: str, r: str, s: str) -> None:
    order = ORDERS[alg]
    size = (order.bit_length() + 7) // 8
    signature = SPECIAL[r](order).to_bytes(size, "big") + SPECIAL[s](order).to_bytes(size, "big")
    kid, _ = curve_key(alg)
    refused_with(forge(header={"alg": alg, "kid": kid}, sign_it=lambda _: signature), ec_issuer(), Reason.BAD_SIGNATURE)
    good(ec_issuer(), forge(key=ec_key("one"), alg="ES256"))


@pytest.mark.parametrize("alg", ORDERS)
@pytest.mark.parametrize("half", [0, 1], ids=["r", "s"])
@pytest.mark.parametrize("value", ["zero", "order", "plus-order"])
def test_15_one_half_out_of_range_is_refused(alg: str, half: int, value: str) -> None:
    order = ORDERS[alg]
    size = (order.bit_length() + 7) // 8
    kid, key = curve_key(alg)

    def change(content: bytes) -> bytes:
        right = sign(key, alg, content)
        halves = [right[:size], right[size:]]
        number = {"zero": 0, "order": order, "plus-order": int.from_bytes(halves[half], "big") + order}[value]
        halves[half] = (number % (1 << 8 * size)).to_bytes(size, "big")
        return b"".join(halves)

    refused_with(forge(header={"alg": alg, "kid": kid}, sign_it=change), ec_issuer(), Reason.BAD_SIGNATURE)


LENGTHS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "der": lambda _: ec_key("one").sign(b"x", ec.ECDSA(SHA256())),
    "truncated": lambda right: right[:-1],
    "zero-appended": lambda right: right + b"\0",
    "halves-padded": lambda right: b"\0" + right[:32] + b"\0" + right[32:],
    "as-p384": lambda right: bytes(16) + right[:32] + bytes(16) + right[32:],
}


@pytest.mark.parametrize("change", LENGTHS.values(), ids=[f"15-{name}" for name in LENGTHS])
def test_15_another_length_is_refused(change: Callable[[bytes], bytes]) -> None:
    token = forge(header={"alg": "ES256"}, sign_it=lambda content: change(sign(ec_key("one"), "ES256", content)))
    refused_with(token, ec_issuer(), Reason.BAD_SIGNATURE)


def test_17_the_curve_must_be_the_algorithms() -> None:
    refused_with(
        forge(key=ec_key("long", "P-384"), alg="ES256", header={"kid": "long"}), ec_issuer(), Reason.ALG_KEY_MISMATCH
    )
    refused_with(forge(key=ec_key("one"), alg="ES384"), ec_issuer(), Reason.ALG_KEY_MISMATCH)


@pytest.mark.parametrize("curve", ["P-521", "secp256k1"])
def test_17_and_18_a_curve_that_is_not_used_is_no_key(curve: str) -> None:
    keys = key_set(jwk(ec_key(curve, curve), kid="odd"), jwk(ec_key("one"), kid="one"))
    by = issuer(keys, algorithms=ec_issuer().algorithms)
    refused_with(forge(key=ec_key(curve, curve), alg="ES256", header={"kid": "odd"}), by, Reason.ALG_KEY_MISMATCH)
    good(by, forge(key=ec_key("one"), alg="ES256"))


@pytest.mark.parametrize("alg", ORDERS)
def test_20_the_twin_of_a_signature_gets_the_same_decision(alg: str) -> None:
    order = ORDERS[alg]
    size = (order.bit_length() + 7) // 8
    kid, key = curve_key(alg)

    def twin(signature: bytes) -> bytes:
        return signature[:size] + (order - int.from_bytes(signature[size:], "big")).to_bytes(size, "big")

    token = forge(claims(groups=["eng"]), key=key, alg=alg, header={"kid": kid})
    content, _, signature = token.rpartition(".")
    decoded = urlsafe_b64decode(signature + "==")
    malleated = f"{content}.{b64(twin(decoded))}"
    assert malleated != token
    both = [establish_identity(bearer(text), [ec_issuer()], now=NOW) for text in (token, malleated)]
    assert both[0].good_until == both[1].good_until
    for established in both:
        assert established.identity.state == facts_pb2.PRESENT
        established.identity.ClearField("token_sha256")
    assert both[0].identity == both[1].identity


def test_the_question_is_answered_for_each_algorithm_of_the_key_only() -> None:
    for alg in ("RS256", "RS384", "RS512"):
        good(rsa_issuer(), forge(alg=alg))
    key = rsa_issuer().keys.by_kid["one"].public  # type: ignore[union-attr] # the issuer is made with keys
    with pytest.raises(BadSignature, match="want an algorithm of a RSA-2048 key"):
        check_signature(key, Algorithm.ES256, signing_input=b"x", signature=bytes(256))


class Credulous:
    """A library that takes every signature for good, as some have done with zeros (CVE-2022-21449)."""

    def verify(self, msg: bytes, sig: bytes) -> bool:
        del msg, sig
        return True


@pytest.mark.parametrize("kind", ["RSA", "P-256"])
def test_12_and_15_length_and_range_do_not_depend_on_the_library(kind: str) -> None:
    keys = key_set(jwk(rsa_key("one"))) if kind == "RSA" else key_set(jwk(ec_key("one")))
    alg = Algorithm.RS256 if kind == "RSA" else Algorithm.ES256
    key = dataclasses.replace(keys.keys[0].public, prepared={alg: Credulous()})
    number_bytes = key.signature_bytes if kind == "RSA" else key.signature_bytes // 2
    zero, one, end = (value.to_bytes(number_bytes, "big") for value in (0, 1, key.bound))
    last = (key.bound - 1).to_bytes(number_bytes, "big")
    right, wrong = ([one, last], [zero, end, one[1:], b"\0" + one]) if kind == "RSA" else (
        [one + last, last + one],
        [zero + one, one + zero, end + one, one + end, one[1:] + one, b"\0" + one + one],
    )  # fmt: skip
    for signature in right:
        check_signature(key, alg, signing_input=b"x", signature=signature)
    for signature in wrong:
        with pytest.raises(BadSignature):
            check_signature(key, alg, signing_input=b"x", signature=signature)
