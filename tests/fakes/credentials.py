# SPDX-License-Identifier: Apache-2.0
"""Headers that a client may send: good credentials, nearly good ones and anything else; and who is let in, said slowly.

The oracle looks for the exact text of the few credentials that are good here. It parses no token and verifies nothing,
so a mistake of ours cannot agree with it.
"""

import functools
import string
from collections.abc import Sequence
from typing import Final

from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from iap_authz.facts.issuer import Issuer
from iap_authz.facts.revocation import Kind, Revocation, RevocationList
from tests.fakes.api_keys import HEADER, KEY
from tests.fakes.tokens import (
    ES,
    ISSUER,
    NOW_S,
    OTHER_ISSUER,
    claims,
    ec_key,
    forge,
    jwk,
    key_set,
    other_issuer,
    rsa_issuer,
    rsa_key,
)

Headers = Sequence[tuple[str, bytes]]

TCHAR: Final = frozenset("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters)
"""RFC 9110 section 5.6.2."""

REVOKED: Final = RevocationList(
    entries=(Revocation(kind=Kind.TOKEN_ID, value="gone", issuer=ISSUER), Revocation(kind=Kind.API_KEY, value="9" * 16))
)


@functools.cache
def issuers() -> tuple[Issuer, Issuer]:
    """Two issuers, of RSA and of elliptic curve keys."""
    return rsa_issuer(), other_issuer(key_set(jwk(ec_key("one"), kid="one")), algorithms=ES)


@functools.cache
def good_tokens() -> tuple[str, str]:
    """The only tokens that are good."""
    return forge(claims(groups=["eng"])), forge(claims(iss=OTHER_ISSUER), key=ec_key("one"), alg="ES256")


@functools.cache
def bad_tokens() -> tuple[str, ...]:
    """Tokens that lack one thing."""
    return (
        forge(claims(exp=NOW_S - 600)),
        forge(claims(jti="gone")),
        forge(claims(aud="others")),
        forge({"iss": ISSUER}),
        forge(claims(iss=OTHER_ISSUER)),
        forge(key=rsa_key("two")),
        forge(header={"kid": "unknown"}),
        forge(header={"alg": "none"}, sign_it=lambda _: b""),
        forge(key=ec_key("two"), alg="ES256", payload=claims(iss=OTHER_ISSUER)),
    )


# ---- who is let in


def headers_of(raw: bytes) -> Headers:
    """The headers of a serialized CheckRequest, names in lower case, as both of its forms have them."""
    message = external_auth_pb2.CheckRequest()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        return ()
    http = message.attributes.request.http
    if http.HasField("header_map"):
        return [(ascii_lower(entry.key), entry.raw_value) for entry in http.header_map.headers]
    return [(ascii_lower(name), value.encode()) for name, value in http.headers.items()]


def ascii_lower(name: str) -> str:
    return "".join(character.lower() if character in string.ascii_uppercase else character for character in name)


def is_somebody(headers: Headers) -> bool:
    """Whether exactly one credential is shown, in its one spelling, and it is good."""
    tokens = [value for name, value in headers if name == "authorization"]
    keys = [value for name, value in headers if name == HEADER]
    if keys:
        return keys == [KEY.encode()] and not tokens
    return tokens in [[b"Bearer " + token.encode()] for token in good_tokens()]


def is_nobody(headers: Headers) -> bool:
    """Whether no credential of ours is shown, and nothing that somebody behind us could take for one."""
    shown = [value for name, value in headers if name == "authorization"]
    if any(name == HEADER for name, _ in headers) or len(shown) > 1:
        return False
    if not shown:
        return True
    scheme, _, _ = shown[0].decode("latin-1").partition(" ")
    return scheme != "" and set(scheme) <= TCHAR and scheme.lower() != "bearer" and b"," not in shown[0]


# ---- what is sent

NAMES = st.sampled_from(
    ("authorization", "Authorization", "AUTHORIZATION", HEADER, "X-Api-Key", "x-api-\u212aey", "x_api_key", "cookie",
     "proxy-authorization", "authorization ", "x-iap-subject", "accept")
) | st.text(max_size=12)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with up to three pieces of it replaced, cut or put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(changed)))
        changed[start : start + draw(st.integers(0, 4))] = draw(st.binary(max_size=3))
    return bytes(changed)


SCHEMES: Final = ("Bearer", "bearer", "BEARER", "Bearer:", " Bearer", "DPoP", "")
BETWEEN: Final = (" ", "", "  ", "\t", ' "')
BEHIND: Final = ("", " ", "\t", ",", ".", "=", ", Bearer x")


def spellings(text: str) -> list[bytes]:
    """Every way to write a token or a key behind a scheme that these three make."""
    return [
        f"{scheme}{between}{text}{behind}".encode() for scheme in SCHEMES for between in BETWEEN for behind in BEHIND
    ]


def respelled() -> st.SearchStrategy[bytes]:
    """One of them, of a good credential or a bad one."""
    parts = (st.sampled_from(SCHEMES), st.sampled_from(BETWEEN), texts(), st.sampled_from(BEHIND))
    return st.tuples(*parts).map(lambda pieces: "".join(pieces).encode())


def texts() -> st.SearchStrategy[str]:
    return st.sampled_from((*good_tokens(), *bad_tokens(), KEY, KEY.upper(), KEY.replace("5e", "5f"), "x", ""))


def good_values() -> st.SearchStrategy[bytes]:
    return st.sampled_from((*(b"Bearer " + token.encode() for token in good_tokens()), KEY.encode()))


def values() -> st.SearchStrategy[bytes]:
    one = good_values() | respelled() | good_values().flatmap(mutated)
    joined = st.lists(one, min_size=2, max_size=3).map(b", ".join)
    return one | joined | texts().map(str.encode) | st.binary(max_size=20) | st.text(max_size=20).map(str.encode)


@st.composite
def header_lists(draw: st.DrawFn) -> Headers:
    """Any headers; often a good credential alone, so that who is let in is drawn as well as who is not."""
    headers = draw(st.lists(st.tuples(NAMES, values()), max_size=3))
    if draw(st.booleans()):
        good = draw(st.sampled_from([("Authorization", f"Bearer {token}".encode()) for token in good_tokens()]
                                    + [(HEADER, KEY.encode())]))  # fmt: skip
        headers.insert(draw(st.integers(0, len(headers))), good)
    return headers
