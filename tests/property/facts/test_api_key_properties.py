# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in the header of API keys: an answer, never an exception, and a machine only for its whole key."""

from hypothesis import example, given
from hypothesis import strategies as st

from iap_authz._pb.iap.facts.v1 import facts_pb2
from iap_authz.facts.identity import credential_of, establish_identity
from iap_authz.facts.revocation import RevocationList, judge_revocation
from iap_authz.model.request import Request
from tests.fakes.api_keys import HEADER, KEY, access
from tests.fakes.tokens import NOW, forge, rsa_issuer

ANYTHING = (
    st.text()
    | st.binary().map(lambda content: content.decode("utf-8", "surrogateescape"))
    | st.binary().map(lambda content: content.decode("latin-1"))
    | st.from_regex(r"iap_[0-9a-f]{15,17}_[0-9a-f]{63,65}\n?")
)


@st.composite
def changed_keys(draw: st.DrawFn) -> str:
    """A good key with one piece of it replaced."""
    start = draw(st.integers(0, len(KEY)))
    end = draw(st.integers(start, min(start + 3, len(KEY))))
    return KEY[:start] + draw(st.text(max_size=3)) + KEY[end:]


@given(
    st.lists(ANYTHING | changed_keys() | st.just(KEY), max_size=3), st.lists(ANYTHING | st.just("Bearer x"), max_size=2)
)
@example([KEY], [])
@example([KEY, KEY], [])
@example([KEY + "\n"], [])
@example(["\ud800"], [])
def test_any_headers_are_answered_and_only_the_whole_key_is_somebody(keys: list[str], authorization: list[str]) -> None:
    headers = {HEADER: tuple(keys)} if keys else {}
    if authorization:
        headers["authorization"] = tuple(authorization)
    request = Request(headers=headers)
    identity = establish_identity(request, [rsa_issuer()], api_keys=access(), now=NOW).identity
    assert (identity.state == facts_pb2.PRESENT) is (keys == [KEY] and not authorization)
    assert identity.SerializeToString()
    if identity.state == facts_pb2.PRESENT:
        assert credential_of(request, access()) == f"header:x-api-key {KEY}"
    judge_revocation(identity, RevocationList(), now=NOW)
    assert (identity.state == facts_pb2.PRESENT) is (keys == [KEY] and not authorization)


@given(changed_keys())
def test_a_key_that_differs_anywhere_is_nobodys(text: str) -> None:
    request = Request(headers={HEADER: (text,)})
    identity = establish_identity(request, [rsa_issuer()], api_keys=access(), now=NOW).identity
    assert (identity.state == facts_pb2.PRESENT) is (text == KEY)


@given(st.text())
def test_no_text_of_a_bearer_is_the_cache_key_of_an_api_key(text: str) -> None:
    shown = credential_of(Request(headers={"authorization": (f"Bearer {text}",)}), access())
    assert shown != f"header:x-api-key {KEY}"
    assert (
        credential_of(Request(headers={"authorization": (f"Bearer {forge()}",)}), access())
        == f"header:authorization {forge()}"
    )
