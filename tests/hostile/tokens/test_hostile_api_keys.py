# SPDX-License-Identifier: Apache-2.0
"""Hostile API keys, and two credentials on one request (rows 67 and 68 of the project's corpus of hostile inputs).

After every refused key a good one is still good: no input leaves anything behind.
"""

import pytest

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.facts.identity import credential_of, establish_identity
from iap_authz.model.reason import Reason
from iap_authz.model.request import Request
from tests.fakes.api_keys import HEADER, KEY, KEY_ID, access, api_key, hash_of, shows_key
from tests.fakes.tokens import NOW, bearer, forge, problem_of, rsa_issuer

SECRET = KEY.rpartition("_")[2]
OTHER = f"iap_{'fe' * 8}_{'a7' * 32}"
KEYS = access(api_key(), api_key(OTHER, name="other"))


def refuse(request: Request, reason: Reason) -> None:
    """The request is INVALID for exactly this reason, and the next good ones are as good as ever."""
    established = establish_identity(request, [rsa_issuer()], api_keys=KEYS, now=NOW)
    assert established.identity.state == facts_pb2.INVALID
    assert problem_of(established) is reason, established.detail
    assert established.good_until is None
    assert {field.name for field, _ in established.identity.ListFields()} <= {
        "state",
        "problem",
        "token_sha256",
        "shown_in",
    }
    assert len(established.identity.token_sha256) == 32
    for shown in (SECRET, KEY_ID, SECRET[:8]):
        assert shown not in established.detail
    for good in (shows_key(KEY), shows_key(OTHER), bearer(forge())):
        assert establish_identity(good, [rsa_issuer()], api_keys=KEYS, now=NOW).identity.state == facts_pb2.PRESENT


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "iap", "iap_", "iap__", f"iap_{KEY_ID}", f"iap_{KEY_ID}_", KEY_ID, SECRET, f"_{KEY_ID}_{SECRET}",
        f" {KEY}", f"{KEY} ", f"{KEY}\n", f"\n{KEY}", f"{KEY}\r\n", f"{KEY}\t", f"{KEY}\0", f"\0{KEY}", f"{KEY}\u2028",
        f"{KEY}=", f"{KEY}0", f"0{KEY}", KEY[:-1], KEY[1:], f"{KEY}{KEY}", f"{KEY} {KEY}", f"{KEY};{KEY}", f'"{KEY}"',
        KEY.upper(), KEY.replace("iap_", "IAP_"), KEY.replace("5e", "5E"), KEY.replace(KEY_ID, KEY_ID.upper()),
        KEY.replace("_", "-"), KEY.replace("_", "."), KEY.replace("_", "__"), KEY.replace("iap_", "iap_v1_"),
        KEY.replace("0", "\u0660"), KEY.replace("0", "\uff10"), KEY.replace("a", "\u0430"), KEY.replace("i", "\u0131"),
        KEY.replace("e", "\u212f"), f"{KEY}\u200b", f"\ufeff{KEY}", f"{KEY}\ud800", "\ud800", "\udcff" * 85, "\0" * 85,
        f"Bearer {KEY}", f"ApiKey {KEY}", f"Basic {KEY}", f"iap_{'0' * 16}_{'0' * 64}", f"iap_{KEY_ID}_{'0' * 64}",
        f"iap_{KEY_ID}_{SECRET[:-1]}f", f"iap_{'0' * 16}_{SECRET}", f"iap_{'fe' * 8}_{SECRET}",
        f"iap_{KEY_ID}_{hash_of(KEY).hex()}", f"iap_{KEY_ID}_{'5g' * 32}", "iap_" + "a" * 100_000, "_" * 10_000,
        "{}", "null", "true", "None", "0", "-1", "../../etc/passwd", "' OR 1=1 --", "%00", f"%69{KEY[1:]}",
    ],
    ids=lambda text: ascii(text)[:200],
)  # fmt: skip
def test_a_key_that_is_not_exactly_one_that_was_given_is_bad(text: str) -> None:
    refuse(shows_key(text), Reason.BAD_API_KEY)


def test_a_token_is_no_key_and_a_key_is_no_token() -> None:
    refuse(shows_key(forge()), Reason.BAD_API_KEY)
    refuse(bearer(KEY), Reason.MALFORMED_TOKEN)


@pytest.mark.parametrize(
    "values",
    [(KEY, KEY), (KEY, OTHER), (KEY, ""), ("", KEY), (KEY, "x"), ("x", "y"), (f"{KEY},{OTHER}",), (f"{KEY},",),
     (f",{KEY}",), (f"{KEY}, {KEY}",), (",",)],
    ids=ascii,
)  # fmt: skip
def test_67_two_values_are_ambiguous(values: tuple[str, ...]) -> None:
    refuse(shows_key(*values), Reason.AMBIGUOUS_CREDENTIALS)
    assert credential_of(shows_key(*values), KEYS) is None


@pytest.mark.parametrize("key", [KEY, "wrong", ""], ids=["good", "wrong", "empty"])
@pytest.mark.parametrize(
    "authorization",
    [("good",), ("Bearer x",), ("bearer x",), ("Basic YTpi",), ("Negotiate AAAA",), ("",), (" ",), ("Bearer",),
     ("Bearer x", "Bearer x"), (KEY,), (f"Bearer {KEY}",), (f"ApiKey {KEY}",), ("nonsense, nonsense",)],
    ids=ascii,
)  # fmt: skip
def test_68_a_key_and_another_credential_are_ambiguous(key: str, authorization: tuple[str, ...]) -> None:
    values = tuple(value.replace("good", f"Bearer {forge()}") for value in authorization)
    request = shows_key(key, authorization=values)
    refuse(request, Reason.AMBIGUOUS_CREDENTIALS)
    assert credential_of(request, KEYS) is None


def test_67_a_key_elsewhere_is_not_read() -> None:
    request = Request(
        query=f"api_key={KEY}&{HEADER}={KEY}",
        path="/",
        headers={
            "cookie": (f"{HEADER}={KEY}",),
            "x_api_key": (KEY,),
            "api-key": (KEY,),
            "x-apikey": (KEY,),
            "proxy-authorization": (f"ApiKey {KEY}",),
        },
    )
    assert establish_identity(request, [], api_keys=KEYS, now=NOW).identity.state == facts_pb2.ABSENT


def test_a_key_that_was_taken_out_is_bad_at_once() -> None:
    without = access(api_key(OTHER))
    assert problem_of(establish_identity(shows_key(KEY), [], api_keys=without, now=NOW)) is Reason.BAD_API_KEY
