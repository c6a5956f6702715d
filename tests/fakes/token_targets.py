# SPDX-License-Identifier: Apache-2.0
"""What a fuzzer of tokens calls: bytes in, and an AssertionError where a token is judged as it must not be.

    text     the bytes are a token, as a client would send it
    signed   header LF payload: the issuer itself signs them, so that what stands behind a signature is reached

`parse_token` and `verify_token` may raise InvalidCredential and SourceUnavailable, and nothing else. A token that is
taken is compared with what the standard library reads in it.
"""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from iap_authz.errors import InvalidCredential, SourceUnavailable
from iap_authz.facts.claims import Claims
from iap_authz.facts.issuer import Issuer
from iap_authz.facts.token import parse_token, verify_token
from tests.fakes.tokens import AUDIENCE, ISSUER, NOW, NOW_S, SKEW, compact, ec_issuer, ec_key, other_issuer, sign

CORPUS: Final = Path(__file__).resolve().parents[1] / "hostile" / "tokens" / "corpus"
"""A folder for each target; one input a file."""


@functools.cache
def issuers() -> tuple[Issuer, Issuer]:
    """The one that signs, and one whose keys are not there."""
    return ec_issuer(), other_issuer(None)


def judge_text(content: bytes) -> Claims | None:
    """Nobody can sign here, so nobody is let in."""
    text = content.decode("utf-8", "surrogateescape")
    claims = verified(text)
    assert claims is None, "a token that nobody signed is taken"
    return claims


def judge_signed(content: bytes) -> Claims | None:
    """A token of the issuer itself. What is taken says what the standard library reads, and names nothing twice."""
    header, _, payload = content.partition(b"\n")
    token = compact(header, payload, lambda signing_input: sign(ec_key("one"), "ES256", signing_input))
    claims = verified(token)
    if claims is None:
        return None
    assert unique(header)["alg"] == "ES256"
    said = unique(payload)
    assert (claims.issuer, claims.subject) == (said["iss"], said["sub"]) == (ISSUER, claims.subject)
    assert AUDIENCE in (said["aud"] if isinstance(said["aud"], list) else [said["aud"]])
    assert float(str(said["exp"])) + SKEW.total_seconds() > NOW_S
    assert claims.good_until > NOW
    assert not {"cnf", "events"} & said.keys()
    for name, value in (("groups", claims.groups), ("amr", claims.amr)):
        assert value is None or list(value) == said[name]
    for text in (claims.subject, claims.email, claims.acr, claims.session_id, claims.token_id, *(claims.groups or ())):
        assert text is None or ("\0" not in text and text.encode("utf-8") is not None)
    return claims


TARGETS: Final[Mapping[str, Callable[[bytes], Claims | None]]] = {"text": judge_text, "signed": judge_signed}


def verified(text: str) -> Claims | None:
    """The claims, None where the token is refused as it may be."""
    try:
        return verify_token(parse_token(text), issuers(), now=NOW)
    except (InvalidCredential, SourceUnavailable):
        return None


def unique(content: bytes) -> dict[str, object]:
    """The object that the standard library reads, whose every name is there once."""

    def take(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(pairs)) == len(pairs), "two members of one name"
        return dict(pairs)

    value = json.loads(content, object_pairs_hook=take)
    assert isinstance(value, dict)
    return value


def corpus(target: str) -> list[Path]:
    """The kept inputs of one target."""
    return sorted((CORPUS / target).iterdir())
